"""An exported network in a model folder: its files, read as data that may come from anybody, and its engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from torch import nn

from segment.errors import UserError
from segment.inference.engines.compiled import Compiled
from segment.inference.engines.engine import Checked, Engine
from segment.inference.engines.names import FORMATS, PRECISIONS, check_engine
from segment.inference.engines.onnx_file import check_onnx, to_onnx
from segment.inference.engines.onnx_runtime import onnxruntime_engine
from segment.inference.engines.open_vino import openvino_engine, read_ir, read_onnx
from segment.text import one_line
from segment.validation import one_of

FILES = {"onnx": ("network.onnx",), "openvino": ("network.xml", "network.bin")}
"""Files of an export by its format; a model.json cannot name others."""

MAX_BYTES = (1 << 31) - 1  # of a file; protobuf reads no more


@dataclass(frozen=True)
class Export:
    """How an exported network was made: the entry ``export`` of a model.json.

    Attributes:
        format: ``onnx`` or ``openvino``.
        precision: ``fp32``, ``bf16`` or ``int8``.
        sha256: Of each of its files.
        weights: SHA-256 of the weights that were exported.
        comparison: The export beside its network, see `segment.export.compare.Comparison`.
        versions: Of the packages that made it.
    """

    format: Annotated[str, one_of(FORMATS)]
    precision: Annotated[str, one_of(PRECISIONS)]
    sha256: dict[str, str]
    weights: str
    comparison: dict[str, Any]
    versions: dict[str, str]

    @property
    def engine(self) -> str:
        """The engine that runs it unless told otherwise."""
        return FORMATS[self.format][0]


def read_engine(
    folder: Path, export: Export, inputs: Sequence[int], outputs: Sequence[int], engine: str | None = None
) -> Engine:
    """Read an exported network and prepare its engine; runs no code from the files and reads no others.

    Args:
        folder: The model folder.
        export: How it was made.
        inputs: Shape of one window: (1, channel, *window).
        outputs: Shape of its logits: (1, output, *window).
        engine: Its name; None: the format's own.

    Raises:
        UserError: When a file is missing, changed, too large, or no plain network of these shapes.
    """
    engine = engine or export.engine
    check_engine(engine, export.format)
    data = [_read(folder / name, export.sha256.get(name)) for name in FILES[export.format]]
    path, precision = folder / FILES[export.format][0], PRECISIONS[export.precision]
    try:
        if export.format == "openvino":
            return openvino_engine(read_ir(data[0], data[1], inputs, outputs), precision)
        check_onnx(data[0], inputs, outputs)
        return (
            onnxruntime_engine(data[0]) if engine == "onnxruntime" else openvino_engine(read_onnx(data[0]), precision)
        )
    except ValueError as error:
        raise UserError(
            f"{path}: {error}. Export the model again, or get the folder from somebody you trust."
        ) from error
    except Exception as error:  # engines raise their own kinds
        raise UserError(f"{path}: {engine} cannot run it ({one_line(error)[:300]}). Export the model again.") from error


def convert(
    network: nn.Module, engine: str, precision: str, inputs: Sequence[int], outputs: Sequence[int]
) -> nn.Module:
    """Make a network in torch one that another engine computes; its first window is checked against torch.

    Args:
        network: In evaluation mode.
        engine: Name of the engine, not torch.
        precision: Lightning's name of the precision of the predictions.
        inputs: Shape of one window: (1, channel, *window).
        outputs: Shape of its logits: (1, output, *window).

    Raises:
        UserError: When a package is missing or the network cannot be converted.
    """
    check_engine(engine)
    if engine == "compile":
        return Checked(network, Compiled(network), engine, precision)
    data = to_onnx(network.cpu(), inputs, outputs)
    made = onnxruntime_engine(data) if engine == "onnxruntime" else openvino_engine(read_onnx(data), precision)
    return Checked(network, made, engine, precision)


def _read(path: Path, expected: str | None) -> bytes:
    """The content of a file whose hash is known."""
    fix = "Copy the model folder again."
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: is larger than {MAX_BYTES:,} bytes, more than any network. {fix}")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). {fix}") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise UserError(f"{path}: is not the file that model.json was written with. {fix}")
    return data
