"""Images that are in memory already: nibabel's, and arrays with an affine, both with axes x, y, z."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np

from segment.errors import UserError
from segment.io.geometry import Grid
from segment.io.images import Image


def image_of(source: Any, affine: Any = None) -> Image:
    """A scan from a nibabel image or an array.

    Args:
        source: A nibabel image; or an array of numbers ``(x, y)``, ``(x, y, z)`` or ``(x, y, z, channel)``.
        affine: With an array: ``(4, 4)``, from voxel index ``(x, y, z, 1)`` to RAS+ millimetres, as nibabel has it.

    Returns:
        float32 ``(channel, z, y, x)`` or ``(channel, y, x)`` with its grid.

    Raises:
        UserError: When it is neither, the affine is missing or impossible, or a voxel is NaN or infinite.
    """
    if isinstance(source, nib.spatialimages.SpatialImage):
        if affine is not None:
            raise UserError("affine: belongs to an array; a nibabel image has its own. Leave it out.")
        name, voxels, affine = "the nibabel image", np.asarray(source.dataobj), source.affine
    else:
        name, voxels = "the array", np.asarray(source)
        if affine is None:
            raise UserError(
                "affine: an array needs one, (4, 4) from voxels x, y, z to RAS+ millimetres, such as nibabel's "
                "image.affine; np.diag([sx, sy, sz, 1]) where only the voxel size is known."
            )
    if voxels.dtype.kind not in "biuf" or not 2 <= voxels.ndim <= 4 or 0 in voxels.shape:
        raise UserError(
            f"{name} of shape {voxels.shape} and type {voxels.dtype} is no scan: give numbers with the axes x, y, z, "
            "and channels last where there are several."
        )
    if voxels.ndim < 4:
        voxels = voxels[..., None]
    array = np.ascontiguousarray(voxels.T, dtype=np.float32)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise UserError(f"{name} holds {bad:,} voxel(s) that are NaN or infinite. Replace them by a number first.")
    return Image(array, Grid(array.shape[1:], _sound(affine, name)))


def _sound(affine: Any, name: str) -> np.ndarray:
    """The affine as float64.

    Raises:
        UserError: When it is none.
    """
    try:
        matrix = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix[:3, :3]) < 3:
        raise UserError(f"affine: that of {name} is no (4, 4) matrix from voxels to millimetres: {affine}.")
    return matrix
