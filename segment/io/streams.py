"""Files that may be gzipped, whatever their names say, and files that belong to another one."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from segment.errors import UserError

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20
_ZLIB_OR_GZIP = 47  # zlib's number for either
_LONGEST_NAME = 255  # bytes of a file's name
_APART = set('/\\:*?"<>|%')  # none of them is in a plain file name; % stands for a series of files in some headers


def is_gzipped(path: Path) -> bool:
    """Whether a file's content is gzipped."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading; what is read of a gzipped one is its content.

    Args:
        path: The file.
    """
    with path.open("rb") as stored:
        if stored.read(2) != _GZIP:
            stored.seek(0)
            yield stored
            return
        stored.seek(0)
        with gzip.GzipFile(fileobj=stored) as stream:
            yield stream  # type: ignore[misc]


def verify_rest(stream: IO[bytes]) -> None:
    """Read a stream to its end, where gzip keeps the checksum of its whole content.

    Args:
        stream: From `unpacked`.

    Raises:
        OSError: If the checksum is wrong.
    """
    if isinstance(stream, gzip.GzipFile):
        while stream.read(_BLOCK):
            pass


def verify_deflated(path: Path, start: int) -> None:
    """Compare voxels that zlib or gzip compressed with their checksum, which ITK's readers do not.

    Args:
        path: The file that holds them.
        start: Their first byte.

    Raises:
        UserError: If they are damaged.
    """
    unpacker = zlib.decompressobj(wbits=_ZLIB_OR_GZIP)
    with path.open("rb") as stream:
        stream.seek(start)
        try:
            while not unpacker.eof and (block := stream.read(_BLOCK)):
                while block and not unpacker.eof:
                    unpacker.decompress(block, _BLOCK)
                    block = unpacker.unconsumed_tail
        except zlib.error:
            pass
    if not unpacker.eof:
        raise UserError(
            f"{path} is truncated or damaged: its compressed voxels do not match their checksum. Copy it again."
        )


def beside(path: Path, name: str) -> Path:
    """A file that a header names, which must lie beside the header: it could name any file of this machine.

    Args:
        path: The header's file.
        name: As it stands in the header; untrusted.

    Returns:
        Path of the other file.

    Raises:
        UserError: If it is not a plain name of a file in the same folder, or is a link out of it.
    """
    fits = len(os.fsencode(name)) <= _LONGEST_NAME
    plain = fits and name.isprintable() and name == name.strip() and not _APART.intersection(name) and name.strip(".")
    if not plain:
        raise UserError(f"{path} stores its voxels in another file than one beside it. Save it as a single file.")
    file = path.parent / name
    if not file.is_file():
        raise UserError(f"{path} stores its voxels in {name}, which is not beside it. Copy it there too.")
    if file.resolve().parent not in (path.parent.resolve(), path.resolve().parent):
        raise UserError(f"{path} stores its voxels in {name}, a link to another folder. Copy the file itself there.")
    return file
