"""Archives from elsewhere, unpacked within limits, regular files only, and only into their folder."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from segment.errors import UserError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Limits of an archive's unpacked content.

    Attributes:
        bytes: Total size of the files.
        files: Number of entries.
    """

    bytes: int = 1 << 40
    files: int = 1_000_000


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    folder: bool
    plain: bool  # a regular file or folder, not a link or device
    member: Any


def unpack(
    archive: Path, folder: Path, limits: Limits, name: str, advance: Callable[[int], object] = lambda number: None
) -> None:
    """Unpack regular files only, only into the folder, within the limits.

    Args:
        archive: A tar or zip file; untrusted.
        folder: Exists.
        limits: Of the unpacked content; the free space of the disk is one more.
        name: Of the archive in messages; it is a zip file if this ends in ``.zip``.
        advance: Called with the number of bytes of each block that is written.

    Raises:
        UserError: If it is damaged, unpacks to more, or contains links, devices or names outside the folder.
    """
    room = min(limits.bytes, shutil.disk_usage(folder).free)
    written = 0
    try:
        with _opened(archive, name) as pack:
            for count, entry in enumerate(_entries(pack), start=1):
                if not entry.plain:
                    raise UserError(
                        f"{name} contains {entry.name!r}, a link or device; such archives are not unpacked."
                    )
                target = target_in(folder, entry.name, name)
                # The declared size is checked first, the actual size while writing.
                if count > limits.files or written + entry.size > room:
                    raise _too_large(name, limits.files, room)
                if entry.folder:
                    target.mkdir(parents=True, exist_ok=True)
                elif not target.name.startswith("._"):  # macOS metadata files
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with _content(pack, entry) as source, target.open("xb") as sink:
                        while block := source.read(_CHUNK):
                            written += len(block)
                            if written > room:
                                raise _too_large(name, limits.files, room)
                            sink.write(block)
                            advance(len(block))
    except UserError:
        raise
    except Exception as error:  # damaged archives raise any exception
        raise UserError(
            f"{name} cannot be unpacked ({error}): it is damaged or not an archive of this type."
        ) from error


def _too_large(name: str, files: int, room: int) -> UserError:
    return UserError(
        f"{name} unpacks to more than {files:,} files or {room:,} bytes; it is not the expected "
        "archive, or the disk is too full. Nothing was kept."
    )


def target_in(folder: Path, name: str, archive: str) -> Path:
    """Target path of an entry.

    Raises:
        UserError: If its name points outside the folder.
    """
    both = (PurePosixPath(name), PureWindowsPath(name))
    if any(path.anchor or ".." in path.parts for path in both) or "\0" in name:
        raise UserError(f"{archive} contains {name!r}, which points outside its folder; the archive is not unpacked.")
    return folder / both[0]


def _opened(archive: Path, name: str) -> Any:
    return zipfile.ZipFile(archive) if name.lower().endswith(".zip") else tarfile.open(archive, mode="r:*")


def _entries(pack: Any) -> Iterator[_Entry]:
    if isinstance(pack, tarfile.TarFile):
        for member in pack:
            plain = (member.isreg() and not member.issparse()) or member.isdir()
            yield _Entry(member.name, member.size if member.isreg() else 0, member.isdir(), plain, member)
        return
    for info in pack.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)  # zero if created on a system without file modes
        plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
        yield _Entry(info.filename, info.file_size, info.is_dir(), plain, info)


def _content(pack: Any, entry: _Entry) -> IO[bytes]:
    if isinstance(pack, tarfile.TarFile):
        source = pack.extractfile(entry.member)
        if source is None:
            raise tarfile.TarError(f"{entry.name} has no content")
        return source
    return pack.open(entry.member)
