"""Maps of numbers from 0 to 1, such as probabilities, as NIfTI files that are written a plane at a time."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from segment.files import written_whole
from segment.io.geometry import Grid

LEVELS = 65535  # NIfTI has no half precision; 16-bit integers with a slope are as small and more accurate near 1
_COMPRESSION = 1  # fast: probabilities hardly compress
_OFFSET = 352  # of the voxels: the header and four zeros, which say that nothing follows it


def write_fractions(path: Path, maps: np.ndarray, grid: Grid) -> None:
    """Write maps on the grid of a scan, along the file's fourth axis; the file is written atomically.

    Args:
        path: A ``.nii.gz`` file. Missing folders are created.
        maps: (map, z, y, x) in [0, 1], one slice for a flat image; rounded to multiples of 1 / 65535. May be a
            memory-mapped file: a plane at a time is converted.
        grid: The grid of the scan.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint16)
    header.set_data_shape(maps.shape[::-1])
    header.set_sform(grid.affine, code="scanner")
    header.set_qform(grid.affine, code="scanner")
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = 1 / LEVELS, 0
    header["magic"], header["vox_offset"] = b"n+1", _OFFSET
    block = header.as_byteswapped("<").binaryblock
    with written_whole(path) as temporary, gzip.open(temporary, "wb", _COMPRESSION) as file:
        file.write(block + bytes(_OFFSET - len(block)))
        for plane in (plane for volume in maps for plane in volume):
            levels = np.rint(np.clip(plane, 0, 1).astype(np.float32) * LEVELS)
            file.write(levels.astype("<u2").tobytes())
