"""Writes a model for another engine, once it is known to give what the network gives."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.export.checks import packages_of
from segment.export.compare import BOUNDS, Bound, Comparison, compare
from segment.export.quantize import calibration_windows, quantize_onnx, quantize_openvino
from segment.export.readme import NAME, readme
from segment.export.scans import Scans
from segment.files import file_sha256, partial_folder, plain, read_mapping, remove_leftovers, write_json
from segment.inference.description import PREVIOUS, format_for
from segment.inference.engines.onnx_file import to_onnx
from segment.inference.engines.open_vino import import_openvino, read_onnx
from segment.inference.exported import FILES, Export, read_engine
from segment.inference.model import Model


@dataclass(frozen=True)
class Exported:
    """A written export.

    Attributes:
        folder: Its model folder.
        comparison: The export beside its network.
        seconds: Of one window, by ``network`` and ``export``.
        megabytes: Of their files, by the same names.
    """

    folder: Path
    comparison: Comparison
    seconds: dict[str, float]
    megabytes: dict[str, float]


def export_model(
    model: Model,
    output: Path,
    format: str,
    precision: str,
    scans: Scans,
    calibration: Scans | None = None,
    agreement: float | None = None,
) -> Exported:
    """Export a model to a model folder that predicts without torch's network, after comparing both.

    Args:
        model: From `segment.inference.model.load_model`, with a network in torch.
        output: The folder; replaced if it exists.
        format: ``onnx`` or ``openvino``.
        precision: ``fp32``, ``bf16`` (openvino) or ``int8``.
        scans: What both are compared on.
        calibration: What int8 is calibrated on.
        agreement: Smallest share of voxels of the same class; None: that of the precision in `BOUNDS`.

    Raises:
        UserError: When the network cannot be converted, or the export differs from it by more than the bound; nothing
            is left behind then.
    """
    if model.export or model.folder is None:
        raise UserError(f"model={model.folder}: is an export. Give the run folder that it was exported from.")
    windows = calibration_windows(model, calibration) if precision == "int8" and calibration else []
    weights = model.weights or model.folder / "weights.safetensors"
    bound = BOUNDS[precision] if agreement is None else Bound(agreement, BOUNDS[precision].logits)
    with _replaced(output) as folder:
        _write_network(folder, to_onnx(model.network, *model.shapes), format, precision, windows)
        hashes = {name: file_sha256(folder / name) for name in FILES[format]}
        packages = ("segment", "torch", *packages_of(format, precision))
        versions = {package: importlib.metadata.version(package) for package in packages}
        export = Export(format, precision, hashes, file_sha256(weights), {}, versions)
        # Read as whoever gets the folder will read it.
        engine = read_engine(folder, export, *model.shapes)
        comparison, seconds = compare(model, engine, scans, bound)
        comparison.check()
        content = asdict(export) | {"comparison": plain(asdict(comparison))}
        content["calibration"] = calibration and {"source": calibration.source, "windows": len(windows)}
        described = read_mapping(model.folder / "model.json")
        described |= {"export": content}
        (folder / NAME).write_text(readme(model, format), encoding="utf-8")
        write_json(folder / "model.json", described | {"format": format_for(described)})
        if model.previous:
            shutil.copytree(model.folder / PREVIOUS, folder / PREVIOUS)
        megabytes = {
            "network": weights.stat().st_size / 1e6,
            "export": sum((folder / name).stat().st_size for name in FILES[format]) / 1e6,
        }
    return Exported(output, comparison, seconds, megabytes)


def _write_network(folder: Path, data: bytes, format: str, precision: str, windows: Sequence[np.ndarray]) -> None:
    """Write the files of a network in a format.

    Args:
        folder: Where to write them.
        data: Bytes of the network in fp32 as ONNX.
        format: ``onnx`` or ``openvino``.
        precision: ``fp32``, ``bf16`` or ``int8``.
        windows: What int8 is calibrated on.
    """
    if format == "onnx":
        data = quantize_onnx(data, windows) if precision == "int8" else data
        (folder / FILES["onnx"][0]).write_bytes(data)
        return
    network = read_onnx(data)
    if precision == "int8":
        network = quantize_openvino(network, windows)
    # fp16 has three more bits than bf16, so weights that are computed with in bf16 lose nothing in it.
    import_openvino().save_model(network, folder / FILES["openvino"][0], compress_to_fp16=precision == "bf16")


@contextmanager
def _replaced(output: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``output``, which replaces it only if the block ends without an exception."""
    output = output.absolute()
    remove_leftovers(output.parent)
    with partial_folder(output.parent) as temporary:
        folder = temporary / output.name
        folder.mkdir()
        yield folder
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
