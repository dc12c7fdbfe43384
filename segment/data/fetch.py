"""Download a data set: resumable, verified by checksum, safely unpacked, all or nothing."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import stat
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from segment.errors import UserError

_CHUNK = 1 << 20
_ATTEMPTS = 4
_TIMEOUT_S = 60
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


@dataclass(frozen=True)
class Limits:
    """Limits of an archive's unpacked content.

    Attributes:
        bytes: Total size of the files.
        files: Number of entries.
    """

    bytes: int = 1 << 40
    files: int = 1_000_000


def download(
    url: str,
    destination: str | Path,
    sha256: str | None = None,
    md5: str | None = None,
    archive_folder: str | None = None,
    limits: Limits | None = None,
    console: Console | None = None,
) -> Path:
    """Download a file or an archive into a new folder.

    A partial download is kept next to the destination as ``NAME.part`` and resumed by the next call. An archive (tar,
    zip) is unpacked and then deleted; any other file is copied into the folder unchanged.

    Args:
        url: An http or https address.
        destination: The folder to create; if it exists, nothing is done.
        sha256: SHA-256 checksum of the downloaded file, as hexadecimal text. This or ``md5`` is required.
        md5: MD5 checksum, for sources that publish no SHA-256.
        archive_folder: Folder in the archive that becomes the destination; None: the only top-level folder, or else
            the whole archive.
        limits: Limits on the unpacked content, in addition to the free disk space.
        console: Where progress and messages go; stderr by default.

    Returns:
        The destination.

    Raises:
        UserError: If the server does not respond, the download remains incomplete, the checksum does not match, or
            the archive is damaged, too large, or tries to write outside its folder.
    """
    folder, console = Path(destination).expanduser(), console or Console(stderr=True)
    if folder.exists():
        console.print(f"{folder} already exists; nothing to download.", highlight=False)
        return folder
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"source.url {url!r} is not an http or https address. Correct it.")
    if not (sha256 or md5):
        raise UserError(f"The source {url} has neither sha256 nor md5, so it cannot be verified. Add one of them.")
    name = Path(unquote(urlsplit(url).path)).name or "download"
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f"{name}.part"
    with _progress(console) as progress:
        _fetch(url, part, progress, name)
        _check(part, url, sha256, md5)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            unpacked = temporary / "unpacked"
            unpacked.mkdir()
            if name.lower().endswith(_ARCHIVES):
                _unpack(part, unpacked, limits or Limits(), progress, name)
                unpacked = _inner(unpacked, archive_folder, name)
            else:
                shutil.copyfile(part, unpacked / name)
            unpacked.rename(folder)
            part.unlink()
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def _fetch(url: str, part: Path, progress: Progress, name: str) -> None:
    """Download ``part`` to its full length, resuming after a broken connection."""
    task = progress.add_task(f"Downloading {name}", total=None)
    reason: object = ""
    for _ in range(_ATTEMPTS):
        try:
            if _stream(url, part, progress, task):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.exists():  # the part already has the full length: the checksum decides
                return
            if error.code < 500:
                raise UserError(f"{url} returned {error.code} {error.reason}. Check source.url.") from error
            reason = error
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = error
    size = part.stat().st_size if part.exists() else 0
    raise UserError(f"{url} could not be downloaded: {reason}. {size:,} bytes are kept in {part}; run again to resume.")


def _stream(url: str, part: Path, progress: Progress, task: Any) -> bool:
    """Append one response to ``part``; True if the file then has the length announced by the server."""
    received = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={received}-"} if received else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        resumed = response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(
            f"bytes {received}-"
        )
        if received and not resumed:  # the server sends the file from the start
            received = 0
        length = response.headers.get("Content-Length")
        total = received + int(length) if length else None
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - received > free:
            raise UserError(
                f"{url} has {total:,} bytes but {part.parent} has only {free:,} bytes free. Free some space."
            )
        progress.update(task, total=total, completed=received)
        with part.open("ab" if received else "wb") as stream:
            while block := response.read(_CHUNK):
                stream.write(block)
                progress.advance(task, len(block))
    return total is None or part.stat().st_size == total


def _check(part: Path, url: str, sha256: str | None, md5: str | None) -> None:
    """Verify the checksum; a file that fails is deleted, so that the next call starts over."""
    kind, expected = ("sha256", sha256) if sha256 else ("md5", str(md5))
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, kind).hexdigest()
    if found != str(expected).strip().lower():
        part.unlink()
        raise UserError(
            f"{url} has the {kind} {found}, not {expected}; the file was deleted. Run again; if it "
            "happens again, the file at the source has changed."
        )


def _inner(unpacked: Path, archive_folder: str | None, name: str) -> Path:
    """The folder of the unpacked archive that becomes the destination."""
    if archive_folder:
        inner = _target(unpacked, archive_folder, name)
        if not inner.is_dir():
            raise UserError(f"{name} has no folder {archive_folder!r}. Correct source.archive_folder.")
        return inner
    top = list(unpacked.iterdir())
    return top[0] if len(top) == 1 and top[0].is_dir() else unpacked


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    folder: bool
    plain: bool  # a regular file or folder, not a link or device
    member: Any


def _unpack(archive: Path, folder: Path, limits: Limits, progress: Progress, name: str) -> None:
    """Unpack regular files only, only into the folder, within the limits."""
    room = min(limits.bytes, shutil.disk_usage(folder).free)
    task = progress.add_task(f"Unpacking {name}", total=None)
    written = 0
    try:
        with _opened(archive, name) as pack:
            for count, entry in enumerate(_entries(pack), start=1):
                if not entry.plain:
                    raise UserError(
                        f"{name} contains {entry.name!r}, a link or device; such archives are not unpacked."
                    )
                target = _target(folder, entry.name, name)
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
                            progress.advance(task, len(block))
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


def _target(folder: Path, name: str, archive: str) -> Path:
    """Target path of an entry; refuses names that point outside the folder."""
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
