"""OpenVINO computes a network."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from defusedxml import ElementTree

from segment.inference.engines.engine import Engine
from segment.inference.engines.onnx_file import MAX_NODES, MAX_VALUES
from segment.text import one_line

if TYPE_CHECKING:
    import openvino

HINTS = {"32-true": "f32", "bf16-mixed": "bf16", "bf16-true": "bf16", "int8": "f32"}
"""OpenVINO's name of each precision, for what is not int8. Left alone, it computes in bf16 where that is fast."""

CONTROL_FLOW = ("If", "Loop", "TensorIterator")


def import_openvino() -> ModuleType:
    """OpenVINO without its telemetry: at its import it would report to another server that it is used."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed
    import openvino

    return openvino


def read_onnx(data: bytes) -> openvino.Model:
    """Read the bytes of an ONNX file that `check_onnx` found plain."""
    return import_openvino().Core().read_model(data)


def read_ir(xml: bytes, weights: bytes, inputs: Sequence[int], outputs: Sequence[int]) -> openvino.Model:
    """Read OpenVINO's own format, of which nothing is trusted.

    Args:
        xml: The network.
        weights: Its weights.
        inputs: Shape of its only input, one window: (1, channel, *window).
        outputs: Shape of its only output: (1, output, *window).

    Raises:
        ValueError: When it is damaged, names operators outside OpenVINO's standard sets, contains control flow, or has
            other shapes.
    """
    _check_layers(xml)
    ov = import_openvino()
    try:
        model = ov.Core().read_model(xml, ov.Tensor(np.frombuffer(weights, np.uint8)))
        ports = [port for op in model.get_ordered_ops() for port in op.outputs()]
        shapes = [list(port.get_partial_shape().to_shape()) for port in ports]
        ends = {"input": model.inputs, "output": model.outputs}
        found = {
            kind: [(list(port.shape), port.element_type.get_type_name()) for port in end] for kind, end in ends.items()
        }
    except Exception as error:  # OpenVINO raises RuntimeError, pybind11 others
        raise ValueError(f"it is not a network of OpenVINO ({one_line(error)[:200]})") from error
    if any(math.prod(shape) > MAX_VALUES for shape in shapes):
        raise ValueError("it has a map larger than any network's")
    for kind, expected in {"input": inputs, "output": outputs}.items():
        if found[kind] != [(list(expected), "f32")]:
            raise ValueError(f"its {kind} is {found[kind]}, but model.json needs one float32 {list(expected)}")
    return model


def openvino_engine(model: openvino.Model, precision: str) -> Engine:
    """An engine for a network that OpenVINO has read; it uses torch's number of threads.

    Args:
        model: From `read_onnx` or `read_ir`.
        precision: A key of `HINTS`.
    """
    ov = import_openvino()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()

    def infer(window: np.ndarray) -> np.ndarray:
        logits: np.ndarray = request.infer({0: window}, share_inputs=True, share_outputs=True)[0]
        return logits

    return Engine(infer)


def _check_layers(xml: bytes) -> None:
    """Raise for anything but layers of OpenVINO's standard sets."""
    try:
        text = xml.decode("utf-8")
        if "<!" in text:
            raise ValueError("it declares entities or types")
        layers = list(ElementTree.fromstring(text.removeprefix('<?xml version="1.0"?>'), forbid_dtd=True).iter("layer"))
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"it is not a network of OpenVINO ({one_line(error)[:200]})") from error
    if len(layers) > MAX_NODES:
        raise ValueError(f"it has {len(layers):,} layers, more than any network")
    for layer in layers:
        kind, version = layer.get("type", "")[:100], layer.get("version", "")[:100]
        if not re.fullmatch(r"opset\d{1,3}", version):
            raise ValueError(f"its layer {kind!r} is of {version!r}, which is no operator set of OpenVINO")
        if kind in CONTROL_FLOW:
            raise ValueError(f"it contains the control flow {kind!r}, which no export does")
        if any(data.get("element_type") == "string" for data in layer.iter("data")):
            raise ValueError(f"its layer {kind!r} holds text, which no export does")
