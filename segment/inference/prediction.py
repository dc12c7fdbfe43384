"""What a model says of one scan, on the scan's own grid."""

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
    """A mask on the grid of its scan, axes x, y, z as nibabel has them (x, y for a flat image).

    Attributes:
        mask: Integers ``(x, y, z)`` or ``(x, y)``: the values of `labels`.
        affine: ``(4, 4)`` float64, from voxel index ``(x, y, z, 1)`` to RAS+ millimetres.
        labels: Name to value; to the list of values whose union it is for regions.
        probabilities: Name to float32 of the mask's shape, in [0, 1]: of every label, the background too, which sum to
            1; or of every region. None where they were not asked for.
        notes: A sentence for each setting that is another one than for the model's scores.
        like: The scan's file, else its grid; what the mask is written on.
    """

    mask: np.ndarray
    affine: np.ndarray
    labels: Mapping[str, Any]
    probabilities: Mapping[str, np.ndarray] | None
    notes: tuple[str, ...]
    like: Path | Grid

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask on the grid of its scan; the file appears whole or not at all.

        Args:
            path: File to write; its suffix is the format. Missing folders are made.

        Returns:
            The file.

        Raises:
            UserError: When the format is unknown or cannot hold the mask.
        """
        target = Path(path).expanduser()
        write_label(target, self.mask.T, like=self.like)
        return target

    def __repr__(self) -> str:
        counts = {name: int((self.mask == value).sum()) for name, value in self.labels.items() if np.ndim(value) == 0}
        return f"Prediction({'x'.join(map(str, self.mask.shape))}, voxels {counts})"
