"""Masks with the names of their structures, in the formats that can hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.files import written_whole
from segment.io.dicom.codes import Code
from segment.io.dicom.files import is_dicom
from segment.io.geometry import Grid
from segment.io.images import read_grid, write_label
from segment.io.mask_formats import OF_SERIES

_COLOURS = ("0.9 0.1 0.29", "0.24 0.71 0.29", "1 0.88 0.1", "0 0.51 0.78", "0.96 0.51 0.19", "0.57 0.12 0.71")


@dataclass(frozen=True)
class Naming:
    """What a format with names says of a mask.

    Attributes:
        labels: Name of a structure to its value, without the background.
        codes: Name of a structure to its code; others have the code of a common structure of that name.
        algorithm: What made the mask.
        version: Its version.
    """

    labels: Mapping[str, int]
    codes: Mapping[str, Code] = field(default_factory=dict)
    algorithm: str = "segment"
    version: str = ""


def write_mask(path: Path, array: np.ndarray, like: Path, kind: str, naming: Naming) -> None:
    """Write a mask; the file is written atomically.

    Args:
        path: File to write, with the ending of its format.
        array: Integers ``(z, y, x)`` or ``(y, x)`` on the grid of ``like``.
        like: One of the files of the scan that it belongs to; a DICOM series for `OF_SERIES`.
        kind: One of `segment.io.mask_formats.ENDINGS`.
        naming: Names of its values.

    Raises:
        UserError: If the format needs a DICOM series and the scan is none, or cannot store the mask.
    """
    if kind == "seg.nrrd":
        with written_whole(path) as temporary:
            _write_seg_nrrd(temporary, array, read_grid(like), naming.labels)
    elif kind in OF_SERIES:
        _write_for_series(path, array, like, kind, naming)
    else:
        write_label(path, array, like)


def _write_for_series(path: Path, array: np.ndarray, like: Path, kind: str, naming: Naming) -> None:
    from segment.io.dicom.segmentation import write_segmentation
    from segment.io.dicom.series import series_of
    from segment.io.dicom.structures import write_structures

    require_series(like, kind)
    series = series_of(like)
    if array.shape != series.grid.shape or array.ndim != 3:
        raise UserError(f"{path.name}: a mask of shape {array.shape} is not on the series of {like}.")
    with written_whole(path) as temporary:
        if kind == "rtstruct":
            write_structures(temporary, array, series, naming.labels, naming.algorithm)
        else:
            given: dict[str, Any] = {"label_map": kind == "dicom_labelmap"}
            names = (naming.labels, naming.codes, naming.algorithm, naming.version)
            write_segmentation(temporary, array, series, *names, **given)


def require_series(like: Path, kind: str) -> None:
    """Check that a format that refers to a DICOM series has one.

    Args:
        like: One of the files of the scan.
        kind: One of `segment.io.mask_formats.ENDINGS`.

    Raises:
        UserError: If it has none.
    """
    if kind in OF_SERIES and not is_dicom(like):
        raise UserError(f"{like} is not of a DICOM series, which {kind} refers to. Write nifti or seg.nrrd instead.")


def _write_seg_nrrd(path: Path, array: np.ndarray, grid: Grid, labels: Mapping[str, int]) -> None:
    """Write a NRRD with Slicer's names and colours of the segments, all in one layer."""
    from segment.io.itk_writer import write_itk
    from segment.io.volumes import itk_image

    image = itk_image(array, grid)
    top = " ".join(f"0 {size - 1}" for size in grid.shape[::-1])
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    image.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    for index, (name, value) in enumerate(labels.items()):
        fields = {"ID": f"Segment_{value}", "Name": name, "LabelValue": str(value), "Layer": "0", "Extent": top}
        fields["Color"] = _COLOURS[index % len(_COLOURS)]
        for key, text in fields.items():
            image.SetMetaData(f"Segment{index}_{key}", text)
    write_itk(image, path)
