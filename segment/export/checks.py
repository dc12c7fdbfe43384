"""What can be checked of an export before torch is imported."""

from __future__ import annotations

from pathlib import Path

from segment.errors import UserError
from segment.files import read_mapping
from segment.inference.engines.names import CONVERSION, FORMATS, require

QUANTISERS = {"onnx": "onnxruntime", "openvino": "nncf"}
"""The package that makes a network of each format int8."""


MOST_PRUNED = 0.9  # of the channels


def packages_of(format: str, precision: str) -> list[str]:
    """Packages that make, run and compare an export."""
    return [*CONVERSION, FORMATS[format][0], "openvino"] + [QUANTISERS[format]] * (precision == "int8")


def check_precision(format: str, precision: str) -> None:
    """Check that a format has a precision, and that what makes it is installed.

    Raises:
        UserError: When it has not, or is not.
    """
    if (format, precision) == ("onnx", "bf16"):
        raise UserError(
            "precision=bf16: ONNX Runtime has no convolutions in bf16 on a CPU. Use format=openvino, or precision=fp32."
        )
    require(packages_of(format, precision), f"format={format}")


def check_prune(ratio: float) -> None:
    """Check that channels can be pruned.

    Raises:
        UserError: When the share is out of range, or the package is missing.
    """
    if not 0 < ratio <= MOST_PRUNED:
        raise UserError(f"prune={ratio:g}: give the share of channels to remove, above 0 and at most {MOST_PRUNED}.")
    require(["torch_pruning"], f"prune={ratio:g}")


def check_output(output: Path, overwrite: bool) -> None:
    """Check that nothing but an older export, if asked for, would be replaced.

    Raises:
        UserError: When something would.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / "model.json").is_file() or "export" not in read_mapping(output / "model.json"):
        raise UserError(f"output={output}: exists and is not an export. Give another folder.")
    if not overwrite:
        raise UserError(f"output={output}: exists. Give another folder, or overwrite=true to replace it.")
