"""FreeSurfer's MGH and MGZ, through nibabel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from segment.io.formats.base import DEFLATE_LIMIT, Header, ImageFormat
from segment.io.formats.nifti import header_of, voxels_of
from segment.io.streams import is_gzipped, unpacked


class Mgh(ImageFormat):
    """3D scans, plain or gzipped; the frames are channels."""

    suffixes = (".mgz", ".mgh")
    dimensions = (3,)

    def read_header(self, path: Path) -> Header:
        """Read shape, type and position; the footer, which has no geometry, is left unread."""
        kind = nib.freesurfer.mghformat.MGHHeader
        with unpacked(path) as stream:
            head = stream.read(kind._hdrdtype.itemsize)
        source = kind(head.ljust(kind.template_dtype.itemsize, b"\0") if head else head)
        header = header_of(path, source)
        return replace(header, unpacking=DEFLATE_LIMIT if is_gzipped(path) else 1)

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels, and verify gzip's checksum."""
        return voxels_of(path, header, dtype)

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask; the format has no uint16."""
        stored = array if array.dtype == np.uint8 else array.astype(np.int32)
        nib.save(nib.MGHImage(stored.T, like.grid.affine), path)
