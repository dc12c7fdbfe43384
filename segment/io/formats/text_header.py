"""Text headers of MetaImage and NRRD, checked before ITK reads them: its parsers in C overrun their buffers.

A number of dimensions that ITK has no room for, a vector of another length and a field that is longer than its error
messages may be written past the end of arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from segment.errors import UserError
from segment.text import printable

_LONGEST = {"field": 500, "text": 10_000}  # bytes of a value
_DIMENSIONS = range(1, 6)
_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,4})?|[-+]?(?:nan|inf)"
_WHOLE = rb"[-+]?\d{1,19}"
_VECTOR = rb"(?:none|\( ?(?:%b)(?: ?, ?(?:%b)){0,4} ?\))" % (_NUMBER, _NUMBER)
_WORDS = rb"[\w.?+-]+"

# The values of MetaImage's fields, and how many: for each dimension, or for each pair of dimensions.
_META: Mapping[bytes, tuple[bytes, Callable[[int], int] | None]] = {
    b"NDims": (_WHOLE, lambda n: 1),
    b"DimSize": (_WHOLE, lambda n: n),
    **dict.fromkeys((b"TransformMatrix", b"Rotation", b"Orientation"), (_NUMBER, lambda n: n * n)),
    **dict.fromkeys(
        (b"Offset", b"Position", b"Origin", b"CenterOfRotation", b"ElementSpacing", b"ElementSize"),
        (_NUMBER, lambda n: n),
    ),
    **dict.fromkeys(
        (b"ElementNumberOfChannels", b"HeaderSize", b"CompressedDataSize", b"CompressionLevel", b"ID", b"ParentID"),
        (_WHOLE, lambda n: 1),
    ),
    **dict.fromkeys(
        (b"ElementMin", b"ElementMax", b"ElementToIntensityFunctionSlope", b"ElementToIntensityFunctionOffset"),
        (_NUMBER, lambda n: 1),
    ),
    b"Color": (_NUMBER, lambda n: 4),
    **dict.fromkeys(
        (b"ElementType", b"ObjectType", b"ObjectSubType", b"BinaryData", b"BinaryDataByteOrderMSB", b"CompressedData",
         b"ElementByteOrderMSB", b"AnatomicalOrientation", b"TransformType", b"DistanceUnits", b"Modality"),
        (_WORDS, None),
    ),
}  # fmt: skip
_META_EXACT = {key.lower(): key for key in _META}
_META_LINE = re.compile(rb"[ \t]*([^=:\r\n]{1,200}?)[ \t]*[=:][ \t]*([^\r\n]*?)[ \t]*\r?")

# The same for NRRD's fields, by their names without spaces and in small letters; None: any text.
_NRRD: Mapping[bytes, bytes | None] = {
    b"dimension": _WHOLE,
    b"spacedimension": _WHOLE,
    b"sizes": _WHOLE,
    b"lineskip": _WHOLE,
    b"byteskip": _WHOLE,
    b"blocksize": _WHOLE,
    **dict.fromkeys((b"spacings", b"thicknesses", b"axismins", b"axismaxs"), _NUMBER),
    **dict.fromkeys((b"min", b"max", b"oldmin", b"oldmax"), _NUMBER),
    **dict.fromkeys((b"spacedirections", b"spaceorigin", b"measurementframe"), _VECTOR),
    **dict.fromkeys((b"kinds", b"centerings", b"centers", b"encoding", b"endian", b"space"), rb"[\w?*-]+"),
    b"type": _WORDS,
    **dict.fromkeys((b"content", b"number", b"sampleunits", b"units", b"spaceunits", b"labels", b"datafile"), None),
}  # fmt: skip


def require_sound_meta(path: Path, head: bytes) -> None:
    """Refuse a MetaImage header with values that are not what its fields hold.

    Args:
        path: The file, for messages.
        head: The header, up to and including the line of ElementDataFile.

    Raises:
        UserError: The message names the field.
    """
    dimensions = 0
    for line in head.rstrip(b"\r\n").split(b"\n"):
        found = _META_LINE.fullmatch(line)
        if found is None:
            raise _refusal(path, line)
        key, value = found.groups()
        exact = _META_EXACT.get(key.lower())
        if exact not in (None, key) or _is_unsafe(line, "text" if exact is None else "field"):
            raise _refusal(path, key)
        if exact is None:
            continue
        pattern, count = _META[key]
        words = value.split()
        if not all(re.fullmatch(pattern, word) for word in words):
            raise _refusal(path, key)
        if key == b"NDims":
            if dimensions or len(words) != 1 or int(words[0]) not in _DIMENSIONS:
                raise _refusal(path, key)
            dimensions = int(words[0])
        elif len(words) != (count(dimensions) if count else 1) or not words:
            raise _refusal(path, key)
    if not dimensions:
        raise _refusal(path, b"NDims")


def require_sound_nrrd(path: Path, head: bytes) -> None:
    """Refuse an NRRD header with fields that the format does not have, or values that they do not hold.

    Args:
        path: The file, for messages.
        head: The header, without the empty line that ends it.

    Raises:
        UserError: The message names the field.
    """
    magic, *lines = head.split(b"\n")
    if not re.fullmatch(rb"NRRD\d{4}\r?", magic):
        raise _refusal(path, magic)
    seen = set()
    for line in lines:
        free = line.startswith(b"#") or b":=" in line
        key, colon, value = line.rstrip(b"\r").partition(b":")
        if _is_unsafe(line, "text" if free else "field"):
            raise _refusal(path, key)
        if free or not line.strip():
            continue
        name = b"".join(key.lower().split())
        if not colon or name not in _NRRD or name in seen:
            raise _refusal(path, key)
        seen.add(name)
        pattern = _NRRD[name]
        if pattern is not None and not re.fullmatch(rb"\s*(?:(?:%b)(?:\s+|$)){1,16}" % pattern, value, re.IGNORECASE):
            raise _refusal(path, key)
        if name in (b"dimension", b"spacedimension") and int(value) not in _DIMENSIONS:
            raise _refusal(path, key)


def _is_unsafe(line: bytes, kind: str) -> bool:
    """Whether a line is longer than a reader has room for, or has characters that end or hide text."""
    return len(line) > _LONGEST[kind] or re.search(rb"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]|\r.", line) is not None


def _refusal(path: Path, field: bytes) -> UserError:
    name = printable(field[:60].decode("utf-8", "replace")).strip()
    return UserError(
        f"{path} is truncated or damaged: its header's field {name!r} is not what the format allows. Copy it again."
    )
