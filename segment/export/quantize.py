"""A network in int8: ranges of its values from scans, weights and activations in 8 bits."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from segment.export.compare import predicted
from segment.export.scans import Scans, evenly
from segment.inference.engines.onnx_file import IMAGE, quiet
from segment.inference.engines.open_vino import import_openvino
from segment.inference.model import Model

if TYPE_CHECKING:
    import openvino

MAX_WINDOWS = 64  # to calibrate on; further ones hardly change the ranges


def calibration_windows(model: Model, scans: Scans) -> list[np.ndarray]:
    """Windows (1, channel, *window) float32 of scans, as the network gets them, evenly among all."""
    collected = _Collected(model.labels.outputs)
    for scan in scans.scans:
        predicted(replace(model, network=collected), scan, overlap=0.0)
    return evenly(collected.windows, MAX_WINDOWS)


class _Collected(nn.Module):
    """Keeps the windows that a network would get."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)
        self.outputs = outputs
        self.windows: list[np.ndarray] = []

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits (n, output, *window) of zero."""
        self.windows += [window.contiguous().numpy().copy() for window in windows.split(1)]
        return windows.new_zeros(len(windows), self.outputs, *windows.shape[2:])


def quantize_openvino(network: openvino.Model, windows: Sequence[np.ndarray]) -> openvino.Model:
    """Quantise a network of OpenVINO with nncf, calibrated on windows."""
    import_openvino()  # before nncf, which would report to another server too
    import nncf

    # It shows its progress on the standard output, which is for results.
    with warnings.catch_warnings(), quiet("nncf"), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        return nncf.quantize(network, nncf.Dataset(list(windows)), subset_size=len(windows))


def quantize_onnx(data: bytes, windows: Sequence[np.ndarray]) -> bytes:
    """Quantise the bytes of an ONNX file with ONNX Runtime's static quantiser, calibrated on windows."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[np.ndarray] = iter(windows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            window = next(self.left, None)
            return None if window is None else {IMAGE: window}

    with tempfile.TemporaryDirectory() as folder, quiet("root"):  # it logs advice there
        target = Path(folder) / "network.onnx"
        quantize_static(
            onnx.load_model_from_string(data),
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return target.read_bytes()
