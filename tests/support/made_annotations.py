"""An asymmetric mask, written as DICOM beside a made series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from made_dicom import EIGHT, make_series, voxels

from segment.io.dicom.segmentation import write_segmentation
from segment.io.dicom.series import Series, contents
from segment.io.dicom.structures import write_structures

SHAPE = (6, 20, 22)
LABELS = {"liver": 2, "liver_tumour": 5}


def phantom() -> np.ndarray:
    """An asymmetric shape with a hole, one voxel alone, two that touch at a corner, and voxels at the border."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:4, 3:15, 4:18] = 2
    mask[1:4, 6:9, 7:10] = 0
    mask[2, 10:12, 6:12] = 5
    mask[2, 18, 2] = 5  # alone
    mask[4, 5, 5] = mask[4, 6, 6] = 2
    mask[5, 0, 0] = mask[5, 19, 21] = 2
    return mask


def written(folder: Path, mask: np.ndarray, kind: str, orientation: Sequence[float] = EIGHT[0]) -> tuple[Path, Series]:
    """Write a mask of a made series beside it; returns the file and the series."""
    make_series(folder, voxels(SHAPE), orientation=orientation)
    (series,) = contents(folder).series
    path = folder / "annotation.dcm"
    if kind == "rtstruct":
        write_structures(path, mask, series, LABELS, "model")
    else:
        write_segmentation(path, mask, series, LABELS, {}, "model", "1", label_map=kind == "labelmap")
    return path, series
