"""MetaImage, through SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path

from segment.io.formats.base import DEFLATE_LIMIT
from segment.io.formats.itk import HEADER_BYTES, ItkFormat, detached

_DATA = re.compile(rb"elementdatafile", re.IGNORECASE)
# The preceding line must have a key and a value, since ITK reads the next line as the value of a key without one.
_LOCAL = re.compile(rb"[=:][ \t]*\S[^\r\n]*\r?\nElementDataFile[ \t]*[=:][ \t]*(?i:local)[ \t]*(?:\r?\n|\Z)")
_COMPRESSED = re.compile(rb"^[ \t]*CompressedData[ \t]*[=:][ \t]*T", re.IGNORECASE | re.MULTILINE)


class MetaImage(ItkFormat):
    """MetaImage, header and voxels in one file."""

    suffixes = (".mha",)
    reader = "MetaImageIO"

    def unpacking(self, path: Path) -> int:
        """Refuse voxels in another file, however the header specifies it; detect compression.

        ITK may delimit lines, keys and values differently from other readers. So ElementDataFile must occur exactly
        once in the header, in its plain form.
        """
        with path.open("rb") as stream:
            head = stream.read(HEADER_BYTES)
        named = list(_DATA.finditer(head))
        plain = _LOCAL.search(head)
        if not named:
            raise ValueError("its header is incomplete")
        if plain is None or len(named) > 1:
            raise detached(path, ".mha")
        return DEFLATE_LIMIT if _COMPRESSED.search(head[: plain.end()]) else 1
