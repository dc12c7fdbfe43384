"""Download a data set: resumable, verified by checksum, safely unpacked, all or nothing."""

from __future__ import annotations

import functools
import hashlib
import http.client
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from segment.data.archives import Limits, target_in, unpack
from segment.errors import UserError

_CHUNK = 1 << 20
_ATTEMPTS = 4
_TIMEOUT_S = 60
_SLOWEST = 1000  # bytes a second, over each `_TIMEOUT_S`
_SCHEMES = ("http", "https")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


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
    if urlsplit(url).scheme not in _SCHEMES:
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
                task = progress.add_task(f"Unpacking {name}", total=None)
                unpack(part, unpacked, limits or Limits(), name, functools.partial(progress.advance, task))
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
        except (OSError, ValueError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = error
    size = part.stat().st_size if part.exists() else 0
    raise UserError(f"{url} could not be downloaded: {reason}. {size:,} bytes are kept in {part}; run again to resume.")


def _stream(url: str, part: Path, progress: Progress, task: Any) -> bool:
    """Append one response to ``part``; True if the file then has the length announced by the server."""
    received = part.stat().st_size if part.exists() else 0
    ranges = {"Range": f"bytes={received}-"} if received else {}
    request = urllib.request.Request(url, headers=ranges)  # noqa: S310 - `download` checks the scheme
    with urllib.request.build_opener(_WebOnly).open(request, timeout=_TIMEOUT_S) as response:
        resumed = response.status == 206 and str(response.headers.get("Content-Range", "")).startswith(
            f"bytes {received}-"
        )
        if received and not resumed:  # the server sends the file from the start
            received = 0
        total = None if response.length is None else received + response.length
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - received > free:
            raise UserError(
                f"{url} has {total:,} bytes but {part.parent} has only {free:,} bytes free. Free some space."
            )
        progress.update(task, total=total, completed=received)
        with part.open("ab" if received else "wb") as stream:
            for block in _blocks(response):
                stream.write(block)
                progress.advance(task, len(block))
    return total is None or part.stat().st_size == total


def _blocks(response: Any) -> Iterator[bytes]:
    """What a server sends, unless it sends so little that the download would not end."""
    begun, arrived = time.monotonic(), 0
    while block := response.read1(_CHUNK):
        yield block
        arrived += len(block)
        if (passed := time.monotonic() - begun) > _TIMEOUT_S:
            if arrived < _SLOWEST * passed:
                raise TimeoutError(f"the server sends less than {_SLOWEST:,} bytes a second")
            begun, arrived = time.monotonic(), 0


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone, and from https to no unencrypted address."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Refuse other schemes, which urllib follows too."""
        scheme = urlsplit(newurl).scheme
        if scheme not in _SCHEMES or (req.type == "https" and scheme != "https"):
            raise UserError(f"{req.full_url} redirects to {newurl!r}, which is not followed. Correct source.url.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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
        inner = target_in(unpacked, archive_folder, name)
        if not inner.is_dir():
            raise UserError(f"{name} has no folder {archive_folder!r}. Correct source.archive_folder.")
        return inner
    top = list(unpacked.iterdir())
    return top[0] if len(top) == 1 and top[0].is_dir() else unpacked
