"""Texts and extensions of NIfTI and Analyze headers."""

from __future__ import annotations

import gzip
import math
import re
import struct
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel as nib

from segment.io.streams import is_gzipped, unpacked
from segment.privacy.values import Field

_TEXTS = (
    *("descrip", "aux_file", "db_name", "intent_name"),
    *("patient_id", "generated", "scannum", "exp_date", "exp_time"),  # Analyze's
)
_PROGRAMS = re.compile(rb"segment|none|nibabel|SimpleITK|(?:FSL)?[56]\.\d+\.\d+[\w.:]*")  # FSL writes its version alone
_LONGEST = 540  # bytes of a header, which is NIfTI-2's
_MOST_BYTES = 1 << 20  # of extensions that are looked at
_BLOCK = 1 << 20
_CODES = {2: "DICOM", 4: "AFNI", 6: "comment", 18: "workflow", 30: "CIFTI", 44: "MRS"}


def find(path: Path) -> Iterator[Field]:
    """Read the texts of a header and its extensions.

    Args:
        path: A NIfTI file, a NIfTI header (``.hdr``) or Analyze's.

    Yields:
        Field and value.
    """
    with unpacked(path) as stream:
        header = _header(stream.read(_LONGEST))
        for name in _TEXTS:
            value = bytes(header[name]).strip(b" \0") if name in header.keys() else b""  # noqa: SIM118 - no mapping
            if value and not _PROGRAMS.fullmatch(value):
                yield name, value.decode("latin-1")
        if bytes(header.get("magic", b""))[:2] == b"n+":
            start = header.sizeof_hdr + 4
            stream.seek(start)
            yield from _extensions(stream.read(max(0, min(int(header["vox_offset"]) - start, _MOST_BYTES))), header)
    named = _name_in_gzip(path)
    if named and named.removesuffix(".gz") != path.name.removesuffix(".gz"):
        yield "file name within gzip", named


def clean(path: Path, copy: Path) -> None:
    """Copy a NIfTI file without texts and extensions; voxels are copied as they are stored.

    Args:
        path: The file.
        copy: File to write, gzipped if the other one is.
    """
    with unpacked(path) as stream, copy.open("wb") as target:
        header = _header(stream.read(_LONGEST))
        start = int(header["vox_offset"])
        length = math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
        for name in _TEXTS:
            if name in header.keys():  # noqa: SIM118 - no mapping
                header[name] = b""
        header["vox_offset"] = header.sizeof_hdr + 4
        stream.seek(start)
        packed = is_gzipped(path)
        with gzip.GzipFile("", "wb", 6, target, mtime=0) if packed else nullcontext(target) as out:
            out.write(header.binaryblock + bytes(4))
            while length > 0 and (block := stream.read(min(length, _BLOCK))):
                out.write(block)
                length -= len(block)


def _header(head: bytes) -> Any:
    for kind in (nib.Nifti2Header, nib.Nifti1Header):
        if kind.may_contain_header(head):
            return kind(head[: kind.sizeof_hdr], check=False)
    return nib.AnalyzeHeader(head[: nib.AnalyzeHeader.sizeof_hdr], check=False)


def _extensions(content: bytes, header: Any) -> Iterator[Field]:
    """What lies between header and voxels: extensions, each with its size and code, or bytes of any other meaning."""
    place = 0
    while place + 8 <= len(content):
        size, code = struct.unpack_from(f"{header.endianness}ii", content, place)
        if size < 16 or size % 16:
            break
        text = content[place + 8 : place + size].strip(b"\0").decode("latin-1")
        yield f"extension {code} ({_CODES.get(code, 'of another program')})", text
        place += size
    if any(content[place:]):
        yield "bytes before the voxels", content[place:].strip(b"\0").decode("latin-1")


def _name_in_gzip(path: Path) -> str:
    """The file name that gzip stored (RFC 1952)."""
    with path.open("rb") as stream:
        head = stream.read(2048)
    return _named(head)


def _named(head: bytes) -> str:
    extra, name = 4, 8
    if head[:2] != b"\x1f\x8b" or len(head) < 12 or not head[3] & name:
        return ""
    start = 12 + int.from_bytes(head[10:12], "little") if head[3] & extra else 10
    return head[start:].partition(b"\0")[0].decode("latin-1")
