"""Scans written to files, for `segment convert`: NIfTI, NRRD and MetaImage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from segment.files import written_whole
from segment.io.geometry import Grid
from segment.io.itk_writer import write_itk

if TYPE_CHECKING:
    import SimpleITK as sitk

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def write_volume(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Write a scan; the file is written atomically.

    Args:
        path: ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``.
        array: ``(channel, z, y, x)`` or ``(channel, y, x)``; integers of 64 bits become floats.
        grid: Its grid.
    """
    array = np.ascontiguousarray(array, _stored(array.dtype))
    with written_whole(path) as temporary:
        if path.name.endswith((".nii", ".nii.gz")):
            voxels = array[0].T if len(array) == 1 else _channels_fourth(array)
            image = nib.Nifti1Image(voxels, grid.affine)
            image.header.set_xyzt_units("mm")
            image.set_qform(grid.affine, code="scanner")
            image.set_sform(grid.affine, code="scanner")
            nib.save(image, temporary)
        else:
            write_itk(itk_image(array[0] if len(array) == 1 else array, grid), temporary)


def _channels_fourth(array: np.ndarray) -> np.ndarray:
    """Axes x, y, z, channel; a flat image has one plane."""
    return array.T if array.ndim == 4 else array.T[:, :, None]


def _stored(dtype: np.dtype) -> np.dtype:
    """The type in which every program reads it."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float32) if dtype.itemsize > 4 or dtype.kind == "f" else dtype


def itk_image(array: np.ndarray, grid: Grid) -> sitk.Image:
    """Convert an array to an image of SimpleITK.

    Args:
        array: ``(z, y, x)`` or ``(y, x)``, with the channels first if there are several.
        grid: Its grid.
    """
    import SimpleITK as sitk

    axes, channels = grid.ndim, array.ndim > grid.ndim
    voxels = np.ascontiguousarray(np.moveaxis(array, 0, -1)) if channels else array
    image = sitk.GetImageFromArray(voxels, isVector=channels)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin((_LPS_TO_RAS @ grid.affine[:3, 3])[:axes].tolist())
    image.SetDirection((_LPS_TO_RAS @ grid.direction)[:axes, :axes].ravel().tolist())
    return image
