"""Texts in PNG and JPEG files."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from segment.io.formats.png import chunks
from segment.privacy import exif
from segment.privacy.values import Field

_MOST_BYTES = 1 << 20  # of a text that are looked at
_PNG_SIGNATURE = 8
_PNG_KEPT = {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"pHYs", b"bKGD", b"hIST"}
_PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_END, _SCAN, _COMMENT, _APP = 0xD9, 0xDA, 0xFE, range(0xE0, 0xF0)
_KEPT_APPS = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # ends entropy-coded data
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}


def find_in_png(path: Path) -> Iterator[Field]:
    """Read the chunks of a PNG that are neither image nor colour.

    Args:
        path: A PNG file.

    Yields:
        Field and value.
    """
    with path.open("rb") as stream:
        for name, length in chunks(stream):
            if _is_kept(name):
                continue
            content = stream.read(min(length, _MOST_BYTES))
            if name in _PNG_TEXTS:
                keyword, _, text = content.partition(b"\0")
                if keyword != b"Software":
                    yield keyword.decode("latin-1"), _unpacked(name, text).decode("latin-1")
            elif name == b"eXIf":
                yield from exif.find(content)
            else:
                yield "tIME, a date" if name == b"tIME" else f"chunk {name.decode('latin-1')}", content.hex()
        if stream.read(1):
            yield "bytes after the image", stream.read(_MOST_BYTES).decode("latin-1")


def clean_png(path: Path, copy: Path) -> None:
    """Copy a PNG without texts; what is image or colour is copied as it is stored.

    Args:
        path: The file.
        copy: File to write.
    """
    with path.open("rb") as stream, copy.open("wb") as out:
        out.write(stream.read(_PNG_SIGNATURE))
        stream.seek(0)
        for name, length in chunks(stream):
            if _is_kept(name):
                out.write(length.to_bytes(4, "big") + name + stream.read(length + 4))


def find_in_jpeg(path: Path) -> Iterator[Field]:
    """Read the segments of a JPEG that are neither image nor colour.

    Args:
        path: A JPEG file.

    Yields:
        Field and value.
    """
    content = path.read_bytes()
    end = 0
    for marker, start, end in _segments(content):
        part = content[start + 4 : end]
        if marker == _COMMENT:
            yield "comment", part[:_MOST_BYTES].decode("latin-1")
        elif marker in _APP and not _is_kept_app(marker, part):
            if part.startswith(exif.PREFIX):
                yield from exif.find(part)
            else:
                name = part[:40].partition(b"\0")[0].decode("ascii", "replace")
                yield f"segment APP{marker - _APP.start}", name
    if any(content[end:]):
        yield "bytes after the image", content[end : end + _MOST_BYTES].decode("latin-1")


def clean_jpeg(path: Path, copy: Path) -> None:
    """Copy a JPEG without texts and thumbnails; of Exif data, the orientation is kept.

    Args:
        path: The file.
        copy: File to write.

    Raises:
        ValueError: If it is damaged.
    """
    content = path.read_bytes()
    with copy.open("wb") as out:
        for marker, start, end in _segments(content):
            part = content[start + 4 : end]
            if marker in _APP and part.startswith(exif.PREFIX):
                kept = exif.orientation_alone(part)
                if kept:
                    out.write(bytes([0xFF, marker]) + (len(kept) + 2).to_bytes(2, "big") + kept)
            elif marker != _COMMENT and not (marker in _APP and not _is_kept_app(marker, part)):
                out.write(content[start:end])


def _is_kept(name: bytes) -> bool:
    """Whether a chunk is critical (upper case, PNG 5.4) or about colours."""
    return name[:1].isupper() or name in _PNG_KEPT


def _unpacked(name: bytes, content: bytes) -> bytes:
    """The text after a keyword, at most `_MOST_BYTES` of it."""
    packed = name == b"zTXt" or (name == b"iTXt" and content[:1] == b"\1")
    if name == b"iTXt":
        content = content[2:].split(b"\0", 2)[-1]
    elif name == b"zTXt":
        content = content[1:]
    return zlib.decompressobj().decompress(content, _MOST_BYTES) if packed else content


def _is_kept_app(marker: int, part: bytes) -> bool:
    return marker in _KEPT_APPS and part.startswith(_KEPT_APPS[marker])


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, first byte and end of each segment, up to the end of the image; a scan's data belong to it."""
    place, marker = 0, 0
    while marker != _END:
        if content[place : place + 1] != b"\xff" or place + 2 > len(content):
            raise ValueError("the segments of the JPEG are damaged")
        marker = content[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2
        if marker not in _NO_LENGTH and marker != _END:
            end += int.from_bytes(content[end : end + 2], "big")
        if marker == _SCAN:
            after = _IN_SCAN.search(content, end)
            end = after.start() if after else len(content)
        yield marker, place, end
        place = end
