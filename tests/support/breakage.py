"""Ways to break a valid miniature data set on disk, with the problem and the file that must be reported."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np


@dataclass(frozen=True)
class Breakage:
    """One way to break a data set.

    Attributes:
        name: What is done.
        do: Breaks the data set at a root; may return further overrides of the command.
        kind: Kind of the problem that must be found.
        file: End of the file that must be named.
        words: What the problem must say.
        layout: Layout of the data set before.
        channels: Channels of each of its scans.
        warning: Whether it is a warning, with which the data set is still valid.
    """

    name: str
    do: Callable[[Path], list[str] | None]
    kind: str
    file: str
    words: tuple[str, ...]
    layout: str
    channels: int
    warning: bool


BREAKAGES: list[Breakage] = []
IMAGE, LABEL = "imagesTr/case_b01_0000.nii.gz", "labelsTr/case_b01.nii.gz"


def breaks(
    kind: str, file: str, *words: str, layout: str = "msd", channels: int = 1, warning: bool = False
) -> Callable:
    """Register a function in the table."""

    def enter(do: Callable[[Path], list[str] | None]) -> Callable[[Path], list[str] | None]:
        BREAKAGES.append(Breakage(do.__name__, do, kind, file, words, layout, channels, warning))
        return do

    return enter


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.array(image.dataobj), image.affine.copy()


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)


def change(path: Path, values: Callable[[np.ndarray], np.ndarray] | None = None, **header: Callable) -> None:
    """Rewrite a scan with other values, or another affine."""
    array, affine = load(path)
    array = values(array) if values else array
    save(path, array, header["affine"](affine) if header else affine)


def edit(root: Path, **changes: object) -> None:
    """Change keys of dataset.json; None takes one out."""
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_training(root: Path, change: Callable[[list[dict]], object]) -> None:
    listed = json.loads((root / "dataset.json").read_text())["training"]
    change(listed)
    edit(root, training=listed)


def patch(path: Path, offset: int, code: str, *values: float) -> None:
    """Overwrite bytes of a NIfTI header as no library would."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(code, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


def both(root: Path, do: Callable[[Path], None]) -> None:
    do(root / IMAGE)
    do(root / LABEL)
