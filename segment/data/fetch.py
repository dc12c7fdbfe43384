"""Download a data set: resumed when interrupted, checked by checksum, unpacked safely, whole or not at all."""

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
    """What an archive may unpack to.

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
    """Download a file or an archive into a folder that is not there yet.

    What came so far is kept beside the destination as ``NAME.part`` and continued by the next call. An archive (tar,
    zip) is unpacked and then deleted; any other file is put into the folder as it is.

    Args:
        url: An http or https address.
        destination: The folder to make; when it is there already, nothing is done.
        sha256: Checksum of the downloaded file, as hexadecimal text. It or ``md5`` is needed.
        md5: The same, for sources that publish no sha256.
        archive_folder: Folder in the archive that becomes the destination; None takes the only one at its top, or else
            the whole archive.
        limits: Bounds on what is unpacked; on top of these the free space of the disk is one.
        console: Where progress and messages go; stderr by default.

    Returns:
        The destination.

    Raises:
        UserError: When the address does not answer, the download stays incomplete, the checksum is another, or the
            archive is damaged, too large, or tries to write outside its folder.
    """
    folder, console = Path(destination).expanduser(), console or Console(stderr=True)
    if folder.exists():
        console.print(f"{folder} is already there; nothing to download.", highlight=False)
        return folder
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"source.url {url!r} is not an http or https address. Correct it.")
    if not (sha256 or md5):
        raise UserError(f"The source {url} has neither sha256 nor md5, so it cannot be checked. Add one of them.")
    name = Path(unquote(urlsplit(url).path)).name or "download"
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f"{name}.part"
    with _progress(console) as progress:
        _fetch(url, part, progress, name)
        _check(part, url, sha256, md5)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            whole = aside / "whole"
            whole.mkdir()
            if name.lower().endswith(_ARCHIVES):
                _unpack(part, whole, limits or Limits(), progress, name)
                whole = _inner(whole, archive_folder, name)
            else:
                shutil.copyfile(part, whole / name)
            whole.rename(folder)
            part.unlink()
        finally:
            shutil.rmtree(aside, ignore_errors=True)
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
    """Bring ``part`` to its full length; a connection that breaks is taken up where it broke."""
    task = progress.add_task(f"Downloading {name}", total=None)
    reason: object = ""
    for _ in range(_ATTEMPTS):
        try:
            if _stream(url, part, progress, task):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.exists():  # what lies here is as long as the file: the checksum decides
                return
            if error.code < 500:
                raise UserError(f"{url} answered {error.code} {error.reason}. Check source.url.") from error
            reason = error
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = error
    size = part.stat().st_size if part.exists() else 0
    raise UserError(
        f"{url} could not be downloaded: {reason}. {size:,} bytes are kept in {part}; run again to continue."
    )


def _stream(url: str, part: Path, progress: Progress, task: Any) -> bool:
    """Append one answer to ``part``; True when the file is then as long as the server says."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        resumed = answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        if have and not resumed:  # the server sends the file from its beginning
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise UserError(f"{url} has {total:,} bytes and {part.parent} has room for {free:,}. Free some space.")
        progress.update(task, total=total, completed=have)
        with part.open("ab" if have else "wb") as stream:
            while block := answer.read(_CHUNK):
                stream.write(block)
                progress.advance(task, len(block))
    return total is None or part.stat().st_size == total


def _check(part: Path, url: str, sha256: str | None, md5: str | None) -> None:
    """Compare the checksum; a file that fails is deleted, so that the next call starts afresh."""
    kind, wanted = ("sha256", sha256) if sha256 else ("md5", str(md5))
    with part.open("rb") as stream:
        found = hashlib.file_digest(stream, kind).hexdigest()
    if found != str(wanted).strip().lower():
        part.unlink()
        raise UserError(
            f"{url} arrived with the {kind} {found}, not {wanted}; the file was deleted. Run again; if it happens "
            "again, the file at the source has changed."
        )


def _inner(whole: Path, archive_folder: str | None, name: str) -> Path:
    """The folder of the unpacked archive that becomes the destination."""
    if archive_folder:
        inner = _target(whole, archive_folder, name)
        if not inner.is_dir():
            raise UserError(f"{name} has no folder {archive_folder!r}. Correct source.archive_folder.")
        return inner
    top = list(whole.iterdir())
    return top[0] if len(top) == 1 and top[0].is_dir() else whole


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    folder: bool
    plain: bool  # a plain file or folder: no link, no device
    member: Any


def _unpack(archive: Path, folder: Path, limits: Limits, progress: Progress, name: str) -> None:
    """Unpack plain files only, into the folder only, within the limits."""
    room = min(limits.bytes, shutil.disk_usage(folder).free)
    task = progress.add_task(f"Unpacking {name}", total=None)
    written = 0
    try:
        with _opened(archive, name) as pack:
            for count, entry in enumerate(_entries(pack), start=1):
                if not entry.plain:
                    raise UserError(
                        f"{name} holds {entry.name!r}, a link or device; archives with these are not unpacked."
                    )
                target = _target(folder, entry.name, name)
                # The promised size is checked before, the real one while writing.
                if count > limits.files or written + entry.size > room:
                    raise _too_large(name, limits.files, room)
                if entry.folder:
                    target.mkdir(parents=True, exist_ok=True)
                elif not target.name.startswith("._"):  # macOS's side files
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
    except Exception as error:  # damaged archives raise anything
        raise UserError(f"{name} cannot be unpacked ({error}): it is damaged or not such an archive.") from error


def _too_large(name: str, files: int, room: int) -> UserError:
    return UserError(
        f"{name} unpacks to more than {files:,} files or {room:,} bytes; it is not what it should be, or the "
        "disk is too full. Nothing was kept."
    )


def _target(folder: Path, name: str, archive: str) -> Path:
    """Where an entry goes; refuses names that lead outside."""
    both = (PurePosixPath(name), PureWindowsPath(name))
    if any(path.anchor or ".." in path.parts for path in both) or "\0" in name:
        raise UserError(f"{archive} holds {name!r}, which leads outside its folder; the archive is not unpacked.")
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
        kind = stat.S_IFMT(info.external_attr >> 16)  # zero when made on a system without such modes
        plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
        yield _Entry(info.filename, info.file_size, info.is_dir(), plain, info)


def _content(pack: Any, entry: _Entry) -> IO[bytes]:
    if isinstance(pack, tarfile.TarFile):
        source = pack.extractfile(entry.member)
        if source is None:
            raise tarfile.TarError(f"{entry.name} has no content")
        return source
    return pack.open(entry.member)
