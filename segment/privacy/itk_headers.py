"""Keys, comments and descriptions of NRRD and MetaImage headers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from segment.errors import UserError
from segment.io.formats.itk import HEADER_BYTES
from segment.privacy.values import Field

_NRRD_KEYS = """
    dimension type sizes spacings thicknesses axismins axismaxs centers centerings kinds labels units spaceunits
    spaceorigin spacedirections spacedimension space measurementframe encoding endian min max oldmin oldmax byteskip
    lineskip blocksize datafile number sampleunits
"""
_NRRD = frozenset(_NRRD_KEYS.split())
_META_KEYS = """
    objecttype ndims binarydata binarydatabyteordermsb elementbyteordermsb compresseddata compresseddatasize
    compressionlevel transformmatrix rotation orientation offset position origin centerofrotation
    anatomicalorientation elementspacing elementsize dimsize elementtype elementnumberofchannels elementmin
    elementmax headersize modality elementdatafile elementtointensityfunctionslope elementtointensityfunctionoffset
    distanceunits color
"""
_META = frozenset(_META_KEYS.split())
_SEGMENTS = re.compile(r"Segment\d+_|Segmentation_")  # 3D Slicer's names and colours of labels
_HINT = re.compile(r"Complete NRRD file format specification at:|http://teem\.sourceforge\.net/nrrd/format\.html")
_END_OF_META = re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][^\r\n]*\r?\n?", re.IGNORECASE | re.MULTILINE)


def find(path: Path) -> Iterator[Field]:
    """Read what a header holds besides the format's own keys.

    Args:
        path: ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd``.

    Yields:
        Field and value.
    """
    head, meta = _head(path)
    for line in head.splitlines():
        field = _told(line.decode("latin-1"), meta)
        if field is not None and field[1]:
            yield field


def clean(path: Path, copy: Path) -> None:
    """Copy a file with the format's own keys alone; voxels are copied as they are stored.

    Args:
        path: ``.nrrd`` or ``.mha``.
        copy: File to write.

    Raises:
        UserError: If the voxels lie in another file, or at a fixed byte of this one.
    """
    head, meta = _head(path)
    if meta and re.search(rb"^[ \t]*HeaderSize[ \t]*[=:][ \t]*[1-9]", head, re.IGNORECASE | re.MULTILINE):
        raise UserError(f"{path} fixes the first byte of its voxels by HeaderSize. Convert it first, to format=mha.")
    kept = [line for line in head.splitlines(keepends=True) if _told(line.decode("latin-1").rstrip(), meta) is None]
    with path.open("rb") as stream, copy.open("wb") as out:
        out.write(b"".join(kept))
        stream.seek(len(head))
        shutil.copyfileobj(stream, out)


def _head(path: Path) -> tuple[bytes, bool]:
    """The header with the line that ends it, and whether it is MetaImage's."""
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    meta = not head.startswith(b"NRRD")
    end = _END_OF_META.search(head) if meta else re.search(rb"\n\r?\n", head)
    return head[: end.end()] if end else head, meta


def _told(line: str, meta: bool) -> Field | None:
    """Field and value of a line that is not the format's own; None if it is."""
    if not line.strip():
        return None
    if line.startswith("#") and not meta:
        return None if _HINT.search(line) else ("comment", line[1:].strip())
    key, separator, value = (part.strip() for part in _split(line, meta))
    known = (_META if meta else _NRRD).__contains__("".join(key.lower().split()))
    if (not separator and line.startswith("NRRD")) or (known and separator != ":="):
        return None
    if separator == ":=" and _SEGMENTS.match(key):
        return None
    return (key if separator else "a line without a key"), value if separator else line.strip()


def _split(line: str, meta: bool) -> tuple[str, str, str]:
    found = re.match(r"([^=:]*)([=:])(.*)" if meta else r"(.*?)(:=|: ?)(.*)", line)
    return (found[1], found[2].strip(), found[3]) if found else (line, "", "")
