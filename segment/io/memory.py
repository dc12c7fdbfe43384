"""Images in memory: nibabel images, and arrays with an affine, both with axes x, y, z."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from segment.errors import UserError
from segment.io.geometry import Grid
from segment.io.images import Image


def files_of(scan: Any) -> list[Path]:
    """The files of a scan; empty if it is not given as paths."""
    paths = [scan] if isinstance(scan, str | os.PathLike) else scan
    is_paths = isinstance(paths, list | tuple) and bool(paths) and all(isinstance(f, str | os.PathLike) for f in paths)
    return [Path(file).expanduser() for file in paths] if is_paths else []


def image_of(source: Any, affine: Any = None) -> Image:
    """Convert a nibabel image or an array to a scan.

    Args:
        source: A nibabel image; or an array of numbers ``(x, y)``, ``(x, y, z)`` or ``(x, y, z, channel)``.
        affine: With an array: ``(4, 4)``, from voxel index ``(x, y, z, 1)`` to RAS+ millimetres, as in nibabel.

    Returns:
        float32 ``(channel, z, y, x)`` or ``(channel, y, x)`` with its grid.

    Raises:
        UserError: If it is neither, the affine is missing or invalid, or a voxel is NaN or infinite.
    """
    if isinstance(source, nib.spatialimages.SpatialImage):
        if affine is not None:
            raise UserError("affine: only for an array; a nibabel image has its own. Remove it.")
        name, voxels, affine = "the nibabel image", np.asarray(source.dataobj), source.affine
    else:
        name, voxels = "the array", np.asarray(source)
        if affine is None:
            raise UserError(
                "affine: an array needs one, (4, 4) from voxels x, y, z to RAS+ millimetres, such as nibabel's "
                "image.affine; np.diag([sx, sy, sz, 1]) if only the voxel size is known."
            )
    if voxels.dtype.kind not in "biuf" or not 2 <= voxels.ndim <= 4 or 0 in voxels.shape:
        raise UserError(
            f"{name} of shape {voxels.shape} and type {voxels.dtype} is not a scan: give numbers with the axes x, y, "
            "z, and channels last if there are several."
        )
    if voxels.ndim < 4:
        voxels = voxels[..., None]
    array = np.ascontiguousarray(voxels.T, dtype=np.float32)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise UserError(f"{name} contains {bad:,} voxel(s) that are NaN or infinite. Replace them first.")
    return Image(array, Grid(array.shape[1:], _valid_affine(affine, name)))


def _valid_affine(affine: Any, name: str) -> np.ndarray:
    """The affine as float64.

    Raises:
        UserError: If it is invalid.
    """
    try:
        matrix = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix[:3, :3]) < 3:
        raise UserError(f"affine: that of {name} is not a (4, 4) matrix from voxels to millimetres: {affine}.")
    return matrix
