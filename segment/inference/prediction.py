"""A model's prediction of one scan, on the scan's grid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment.io.geometry import Grid
from segment.io.images import write_label


@dataclass(frozen=True, eq=False)
class Prediction:
    """A mask on the grid of its scan, axes x, y, z as in nibabel (x, y for a 2D image).

    Attributes:
        mask: Integers ``(x, y, z)`` or ``(x, y)``: the values of `labels`.
        affine: ``(4, 4)`` float64, from voxel index ``(x, y, z, 1)`` to RAS+ millimetres.
        labels: Name to value; for regions, to the list of values whose union it is.
        probabilities: Name to float32 of the mask's shape, in [0, 1]: of every label, including background, which
            sum to 1; or of every region. None if not requested.
        notes: A sentence for each setting that differs from that of the model's scores.
        like: The scan's file or grid, whose geometry the mask is written with.
    """

    mask: np.ndarray
    affine: np.ndarray
    labels: Mapping[str, Any]
    probabilities: Mapping[str, np.ndarray] | None
    notes: tuple[str, ...]
    like: Path | Grid

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask on the grid of its scan; the file is written atomically.

        Args:
            path: File to write; its suffix determines the format. Missing folders are created.

        Returns:
            The path of the file.

        Raises:
            UserError: When the format is unknown or cannot hold the mask.
        """
        target = Path(path).expanduser()
        write_label(target, self.mask.T, like=self.like)
        return target

    def __repr__(self) -> str:
        counts = {name: int((self.mask == value).sum()) for name, value in self.labels.items() if np.ndim(value) == 0}
        return f"Prediction({'x'.join(map(str, self.mask.shape))}, voxels {counts})"
