"""Maps of numbers from 0 to 1, such as probabilities, as NIfTI files that are written a plane at a time."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np

from segment.files import written_whole
from segment.io.geometry import Grid

LEVELS = 65535  # NIfTI has no half precision; 16-bit integers with a slope are as small and more accurate near 1
_COMPRESSION = 1  # fast: probabilities hardly compress
_OFFSET = 352  # of the voxels: the header and four zeros, which say that nothing follows it


def write_fractions(path: Path, volumes: Iterable[np.ndarray], count: int, grid: Grid) -> None:
    """Write one map or several; the file is written atomically.

    Args:
        path: A ``.nii.gz`` file. Missing folders are created.
        volumes: Each ``(z, y, x)`` or ``(y, x)`` in [0, 1] on the grid; rounded to multiples of 1 / 65535.
        count: Their number; several are the fourth axis.
        grid: The grid of the scan.
    """
    space = (*grid.shape[::-1], *[1] * (3 - grid.ndim))
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint16)
    header.set_data_shape(space if count == 1 else (*space, count))
    header.set_sform(grid.affine, code="scanner")
    header.set_qform(grid.affine, code="scanner")
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = 1 / LEVELS, 0
    header["magic"], header["vox_offset"] = b"n+1", _OFFSET
    block = header.as_byteswapped("<").binaryblock
    with written_whole(path) as temporary, gzip.open(temporary, "wb", _COMPRESSION) as file:
        file.write(block + bytes(_OFFSET - len(block)))
        for volume in volumes:
            for plane in volume[None] if volume.ndim == 2 else volume:
                levels = np.rint(np.clip(plane, 0, 1).astype(np.float32) * LEVELS)
                file.write(levels.astype("<u2").tobytes())
