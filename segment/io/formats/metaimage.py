"""MetaImage, through SimpleITK."""

from __future__ import annotations

import os
import re
from pathlib import Path

from segment.io.formats.itk import HEADER_BYTES, ItkFormat, Stored, detached, incomplete
from segment.io.formats.text_header import require_sound_meta
from segment.io.streams import beside

_DATA = re.compile(rb"elementdatafile", re.IGNORECASE)
# The preceding line must have a key and a value, since ITK reads the next line as the value of a key without one.
_PLAIN = rb"[=:][ \t]*\S[^\r\n]*\r?\nElementDataFile[ \t]*[=:][ \t]*%b[ \t]*(?:\r?\n|\Z)"
_LOCAL = re.compile(_PLAIN % rb"(?i:local)")
_NAMED = re.compile(_PLAIN % rb"(?!(?i:list|local))([^\r\n]*?)" + rb"\s*\Z")
_COMPRESSED = re.compile(rb"^[ \t]*CompressedData[ \t]*[=:][ \t]*T", re.IGNORECASE | re.MULTILINE)


class MetaImage(ItkFormat):
    """MetaImage, header and voxels in one file."""

    suffixes = (".mha",)
    reader = "MetaImageIO"

    def stored(self, path: Path) -> Stored:
        """Refuse voxels in another file, however the header specifies it.

        ITK may delimit lines, keys and values differently from other readers. So ElementDataFile must occur exactly
        once in the header, in its plain form.
        """
        head = _head(path)
        plain = _LOCAL.search(head)
        if plain is None or len(_DATA.findall(head)) > 1:
            raise detached(path, ".mha")
        return _stored(path, path, plain.end(), head[: plain.end()])


class DetachedMetaImage(MetaImage):
    """A MetaImage header with its voxels in one file beside it, or after it; masks are written as ``.mha``."""

    suffixes = (".mhd",)
    mask_suffix = ".mha"
    label_types = ()

    def stored(self, path: Path) -> Stored:
        """Refuse voxels elsewhere than beside the header, by the same rules."""
        head = _head(path)
        named = _NAMED.search(head)
        if named is None or len(_DATA.findall(head)) > 1:
            return super().stored(path)
        return _stored(path, beside(path, os.fsdecode(named[1])), 0, head)


def _stored(path: Path, file: Path, start: int, head: bytes) -> Stored:
    require_sound_meta(path, head)
    deflated = _COMPRESSED.search(head) is not None
    return Stored(file, start, raw=not deflated, deflated=deflated)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    if _DATA.search(head) is None:
        raise incomplete(path)
    return head
