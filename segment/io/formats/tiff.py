"""TIFF, through SimpleITK."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.io.formats.base import LZW_LIMIT
from segment.io.formats.itk import ItkFormat


class Tiff(ItkFormat):
    """2D images, or one page per slice; the resolution tag is for printing, so a voxel counts as 1 mm."""

    suffixes = (".tif", ".tiff")
    label_types = (np.uint8, np.uint16)
    reader = "TIFFImageIO"
    positioned = False

    def unpacking(self, path: Path) -> int:
        """Refuse a file with a missing page; return the maximum compression ratio."""
        _require_all_pages(path)
        return LZW_LIMIT


def _require_all_pages(path: Path) -> None:
    """Follow the chain of pages: libtiff drops the pages of a truncated file without an error."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        if not order or len(head) < 8:
            raise UserError(f"{path} is not a TIFF file, or is damaged. Copy it again from its source.")
        big = struct.unpack(order + "H", head[2:4])[0] == 43
        count_code, entry, pointer_code = ("Q", 20, "Q") if big else ("H", 12, "I")
        offset = struct.unpack_from(order + pointer_code, head, 8 if big else 4)[0] if len(head) == 16 else size
        seen: set[int] = set()
        while offset:
            count_bytes, pointer_bytes = struct.calcsize(count_code), struct.calcsize(pointer_code)
            count = math.inf
            if offset + count_bytes <= size and offset not in seen:
                stream.seek(offset)
                count = struct.unpack(order + count_code, stream.read(count_bytes))[0]
            end = offset + count_bytes + entry * count + pointer_bytes
            if end > size:
                raise UserError(f"{path} is truncated or damaged: a page is missing. Copy it again from its source.")
            seen.add(offset)
            stream.seek(int(end) - pointer_bytes)
            offset = struct.unpack(order + pointer_code, stream.read(pointer_bytes))[0]
