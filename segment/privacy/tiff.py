"""Texts in TIFF files: descriptions, names, dates, Exif and private tags."""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import defusedxml.ElementTree

from segment.privacy.values import Field

_MOST_BYTES = 1 << 24  # of a value; longer ones are not read as text but emptied
_MOST_FOLDERS, _MOST_VALUES = 100_000, 4_000_000
_DESCRIPTION, _GPS = 270, 34853
_FOLDERS = {330: "", 34665: "Exif ", _GPS: "GPS ", 40965: "Exif "}  # tags that lead to further directories
_TEXTS = {
    **{269: "DocumentName", _DESCRIPTION: "ImageDescription", 285: "PageName", 306: "DateTime", 315: "Artist"},
    **{316: "HostComputer", 700: "XMP", 33432: "Copyright", 33723: "IPTC", 34377: "Photoshop"},
    **{50839: "ImageJ info", 37510: "UserComment", 37500: "MakerNote"},
    **{36867: "DateTimeOriginal", 36868: "DateTimeDigitized", 42016: "ImageUniqueID", 42032: "CameraOwnerName"},
    **{42033: "BodySerialNumber", 42037: "LensSerialNumber"},
}
# Of the image and the camera: colour profile, versions, kinds of sources, lens.
_OWN = {34675, 36864, 37121, 40960, 41728, 41729, 41730, 42035, 42036}
_PRIVATE = 32768
_ASCII, _UNDEFINED = 2, 7
_POINTERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_POINTERS = 8000  # bytes
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_IMAGEJ = re.compile(
    r"(ImageJ|images|channels|slices|frames|hyperstack|mode|unit|[xyzv]unit|spacing|loop|min|max|finterval|fps"
    r"|c[0-9]+|vunit|[xyz]origin)=[\w.+\-\\ ]*"
)
_OME_KEPT = {"OME", "Image", "Pixels", "Channel", "TiffData", "Plane", "UUID", "BinData", "LightPath"}
_OME_DROPPED = {"Name", "AcquisitionDate", "FileName", "UserName"}
_OME_NAME = re.compile(r"Image[ :]?\d*")  # that programs give


@dataclass(frozen=True)
class _Entry:
    """A value of a directory: which tag, in which directory, and where its bytes lie."""

    tag: int
    folder: str
    start: int
    length: int


def find(path: Path) -> Iterator[Field]:
    """Read the texts of all directories of a TIFF file.

    Args:
        path: A TIFF or BigTIFF file; untrusted.

    Yields:
        Field and value.
    """
    with path.open("rb") as stream:
        for entry in _entries(stream):
            before = _read(stream, entry)
            told = _without_own(before) if entry.tag == _DESCRIPTION and not entry.folder else before
            text = told.strip(b" \0\n").decode("latin-1")
            if text and any(before):
                yield _name(entry), text


def clean(path: Path, copy: Path) -> None:
    """Copy a TIFF file with its texts emptied in place, so that nothing else of it changes.

    Args:
        path: The file.
        copy: File to write.
    """
    shutil.copyfile(path, copy)
    with copy.open("r+b") as stream:
        for entry in list(_entries(stream)):
            before = _read(stream, entry)
            kept = _own(before) if entry.tag == _DESCRIPTION and not entry.folder else b""
            stream.seek(entry.start)
            stream.write(kept[: entry.length].ljust(entry.length, b"\0"))


def _name(entry: _Entry) -> str:
    return entry.folder.strip() if entry.folder == "GPS " else entry.folder + _TEXTS.get(entry.tag, f"tag {entry.tag}")


def _read(stream: BinaryIO, entry: _Entry) -> bytes:
    stream.seek(entry.start)
    return stream.read(min(entry.length, _MOST_BYTES))


def _entries(stream: BinaryIO) -> Iterator[_Entry]:
    """The values that may tell something, of all directories; each directory is read once."""
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    size = stream.seek(0, 2)
    waiting = [(struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)[0], "")]
    seen: set[int] = set()
    count = 0
    while waiting and len(seen) < _MOST_FOLDERS:
        offset, folder = waiting.pop()
        if not 0 < offset < size or offset in seen:
            continue
        seen.add(offset)
        values, after = _directory(stream, offset, order, big)
        count += len(values)
        if count > _MOST_VALUES:
            raise ValueError("the directories overlap or have too many values")
        waiting.append((after, folder))
        for tag, kind, start, length in values:
            if start + length > size:
                continue
            if tag in _FOLDERS and kind in _POINTERS:
                stream.seek(start)
                content = stream.read(min(length, _MOST_POINTERS))
                waiting += [(value, _FOLDERS[tag]) for (value,) in struct.iter_unpack(order + _POINTERS[kind], content)]
            elif folder == "GPS " or _tells(tag, kind):
                yield _Entry(tag, folder, start, length)


def _tells(tag: int, kind: int) -> bool:
    return tag in _TEXTS or (tag >= _PRIVATE and tag not in _OWN and kind in (_ASCII, _UNDEFINED))


def _directory(stream: BinaryIO, offset: int, order: str, big: bool) -> tuple[list[tuple[int, int, int, int]], int]:
    """Tag, type, first byte and number of bytes of each value of a directory, and where the next directory is."""
    count_code, entry_code, inline = ("Q", "HHQQ", 8) if big else ("H", "HHII", 4)
    stream.seek(offset)
    head = stream.read(struct.calcsize(order + count_code))
    count = struct.unpack(order + count_code, head)[0]
    width = struct.calcsize(order + entry_code)
    content = stream.read(min(count, _MOST_FOLDERS) * width)
    found = []
    for place, (tag, kind, number, value) in enumerate(struct.iter_unpack(order + entry_code, content)):
        length = number * _SIZES.get(kind, 1)
        own = offset + len(head) + (place + 1) * width - inline
        found.append((tag, kind, own if length <= inline else value, length))
    rest = stream.read(inline)
    return found, int.from_bytes(rest, "little" if order == "<" else "big") if len(rest) == inline else 0


def _without_own(description: bytes) -> bytes:
    """What a description says besides the axes and sizes that ImageJ, OME and tifffile write; empty if nothing."""
    own = _own(description)
    return b"" if own.strip(b"\0\n ") == description.strip(b"\0\n ") else description


def _own(description: bytes) -> bytes:
    """The part of a description that says how the image is to be read."""
    text = description.strip(b"\0")
    if text.startswith(b"ImageJ="):
        lines = text.decode("latin-1").splitlines()
        return "".join(f"{line}\n" for line in lines if _IMAGEJ.fullmatch(line)).encode("latin-1")
    if text.startswith(b'{"shape"'):
        kept = {key: value for key, value in json.loads(text).items() if key in ("shape", "axes")}
        return json.dumps(kept).encode()
    return _own_of_ome(text) if b"<OME" in text[:2000] else b""


def _own_of_ome(text: bytes) -> bytes:
    """OME-XML with pixels, channels and planes alone; as it was if that is all it has."""
    root = defusedxml.ElementTree.fromstring(text)
    changed = False
    for element in root.iter():
        for child in list(element):
            if _plain(child.tag) not in _OME_KEPT:
                element.remove(child)
                changed = True
        for name in set(element.attrib) & _OME_DROPPED:
            own = name == "Name" and (_plain(element.tag) == "Channel" or _OME_NAME.fullmatch(element.attrib[name]))
            if not own:
                del element.attrib[name]
                changed = True
    if not changed:
        return text
    if root.tag.startswith("{"):
        ElementTree.register_namespace("", root.tag[1:].partition("}")[0])
    return ElementTree.tostring(root)


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2]
