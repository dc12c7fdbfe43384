"""Series from a DICOMweb server, and objects back to it (PS3.18): QIDO-RS, WADO-RS and STOW-RS."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from segment.errors import UserError
from segment.io.dicom.files import MAX_FILES, is_dicom, read_dataset
from segment.memory import available_memory
from segment.text import one_line

if TYPE_CHECKING:
    import requests
    from dicomweb_client import DICOMwebClient

SCHEME = "dicomweb:"
"""What an address begins with."""

_STUDY, _SERIES = "StudyInstanceUID", "SeriesInstanceUID"
_UID = re.compile(r"[0-9.]{1,64}")
_TIMEOUT = (10, 120)  # seconds to connect, and without any byte
_MOST_JSON = 64 << 20
_MOST_SERIES = 1000  # of a study
_NO_IMAGES = {"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SR", "PR", "KO", "DOC", "AU", "ECG", "REG", "FID"}
_MULTIPART = 'multipart/related; type="application/dicom"'


@dataclass(frozen=True)
class Address:
    """What is fetched from where.

    Attributes:
        url: The server's DICOMweb root, such as ``http://localhost:8042/dicom-web``.
        study: Study instance UID.
        series: Series instance UID; empty for all series of the study.
    """

    url: str
    study: str
    series: str = ""


def is_address(text: str) -> bool:
    """Whether the value of a key is an address rather than a path."""
    return text.startswith(SCHEME)


def parse_address(text: str) -> Address:
    """Read ``dicomweb:URL?StudyInstanceUID=UID`` and, optionally, ``&SeriesInstanceUID=UID``.

    Args:
        text: As the user wrote it.

    Raises:
        UserError: If it is not of this form, not http or https, or holds a password.
    """
    form = f"Give {SCHEME}http://HOST:PORT/PATH?{_STUDY}=UID, and &{_SERIES}=UID for one series."
    try:
        parts = urlsplit(text.removeprefix(SCHEME))
        asked = parse_qsl(parts.query, keep_blank_values=True)
        host = parts.hostname
        _ = parts.port  # raises if it is no number
    except ValueError as error:
        raise UserError(f"input={text}: is no address ({error}). {form}") from error
    if parts.scheme not in ("http", "https") or not host or parts.fragment:
        raise UserError(f"input={text}: is not the http or https address of a DICOMweb server. {form}")
    if parts.username or parts.password:
        raise UserError(
            f"input={SCHEME}{parts.scheme}://…@{host}: a password here would be kept in predictions.json. "
            "Put it into ~/.netrc."
        )
    query = dict(asked)
    unknown = next((key for key in query if key not in (_STUDY, _SERIES)), None)
    if unknown or _STUDY not in query or len(query) < len(asked):
        raise UserError(f"input={text}: {unknown or _STUDY} is {'no key' if unknown else 'missing'}. {form}")
    wrong = next((value for value in query.values() if not _UID.fullmatch(value)), None)
    if wrong is not None:
        raise UserError(f"input={text}: {wrong!r} is no UID, which has digits and dots. {form}")
    root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return Address(root, query[_STUDY], query.get(_SERIES, ""))


def fetch(address: Address, folder: Path, advance: Callable[[int], None] = lambda files: None) -> None:
    """Fetch the image series of a study, each into a folder of its own.

    Files are kept as the server sends them, under names of our own. What a server sends is bounded by the free memory
    and disk space; answers that lead elsewhere are not followed.

    Args:
        address: The study, or one series of it.
        folder: An empty folder.
        advance: Called after each file with the number of files so far.

    Raises:
        UserError: If the server cannot be reached, refuses, sends too much, or has no such series.
    """
    count = 0
    limit = min(available_memory(), shutil.disk_usage(folder).free) // 2
    with _client(address.url, limit) as client:
        found = client.search_for_series(address.study, fields=["Modality", "SeriesNumber"])
        for uid, name in _wanted(found, address).items():
            place = folder / name
            place.mkdir()
            url = f"{client.base_url}/studies/{address.study}/series/{uid}"
            for content in client.iter_bulkdata(url):
                count += 1
                if count > MAX_FILES:
                    raise UserError(f"{address.url} sends more than {MAX_FILES:,} files. Give one series.")
                path = place / f"{count:06d}.dcm"
                path.write_bytes(content)
                if not is_dicom(path):
                    raise UserError(f"{address.url} sends something else than DICOM for series {uid}.")
                advance(count)
    if not count:
        raise UserError(f"{address.url} sends no file for study {address.study}. Look whether its images are online.")


def store(url: str, files: Sequence[Path]) -> None:
    """Send DICOM files to a server.

    Args:
        url: Its DICOMweb root.
        files: The files.

    Raises:
        UserError: If the server cannot be reached, or does not take one of them.
    """
    with _client(url) as client:
        for file in files:
            answer = client.store_instances([read_dataset(file)])
            failed = answer.get("FailedSOPSequence") or []
            if failed:
                reason = failed[0].get("FailureReason", "without a reason")
                raise UserError(f"{url} does not store {file} (failure reason {reason}). It stays where it is.")


def _wanted(found: object, address: Address) -> dict[str, str]:
    """UID of each image series, and the name of its folder."""
    entries = found if isinstance(found, list) else []
    if len(entries) > _MOST_SERIES:
        raise UserError(f"{address.url}: study {address.study} has {len(entries)} series. Give {_SERIES}.")
    wanted: dict[str, str] = {}
    for entry in entries:
        uid, modality, number = (_first(entry, tag) for tag in ("0020000E", "00080060", "00200011"))
        chosen = uid == address.series if address.series else modality not in _NO_IMAGES
        if chosen and _UID.fullmatch(uid):
            name = f"series_{number}" if number.isdecimal() and len(number) < 10 else "series"
            wanted[uid] = name if name not in wanted.values() else f"{name}_{len(wanted) + 1}"
    if not wanted:
        what = f"series {address.series}" if address.series else "image series"
        raise UserError(f"{address.url}: study {address.study} has no {what}. Check the UIDs.")
    return wanted


def _first(entry: object, tag: str) -> str:
    """The first value of an attribute in DICOM's JSON; empty if it is missing or malformed."""
    element = entry.get(tag) if isinstance(entry, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


@contextlib.contextmanager
def _client(url: str, limit: int = _MOST_JSON) -> Iterator[DICOMwebClient]:
    """A client whose failures are errors of the user's, and for which a series may have so many bytes."""
    try:
        import requests
        from dicomweb_client import DICOMwebClient
    except ImportError:
        raise UserError("A DICOMweb server needs the package dicomweb-client: install segment[dicom].") from None
    with requests.Session() as session:
        session.send = partial(_bounded, session.send, limit)  # type: ignore[method-assign]
        try:
            client = DICOMwebClient(url, session=session, timeout=_TIMEOUT)
            client.set_http_retry_params(retry=False)  # it repeats for half a minute whatever is wrong
            yield client
        except requests.HTTPError as error:
            status = getattr(error.response, "status_code", "an error")
            raise UserError(f"{url} answers {status}. Check the address, the UIDs and ~/.netrc.") from error
        # The latter of what the client makes of an answer.
        except (requests.JSONDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{url} does not answer as DICOMweb says ({one_line(error)[:200]}). Check the path of the address."
            ) from error
        except requests.RequestException as error:
            raise UserError(f"{url} cannot be reached ({one_line(error)[:200]}). Check the address.") from error


def _bounded(send: Callable[..., requests.Response], most: int, request: Any, **options: Any) -> requests.Response:
    """Send a request whose answer is read piece by piece up to a limit, and may not lead elsewhere."""
    limit = _MOST_JSON
    if request.headers.get("Accept", "").startswith("multipart"):
        # The client asks for bulk data of any type; these are files, to be sent as they are stored.
        request.headers["Accept"] = f"{_MULTIPART}; transfer-syntax=*"
        limit = most
    request.headers["Accept-Encoding"] = "identity"
    response = send(request, **{**options, "allow_redirects": False, "stream": True})
    if response.is_redirect:
        raise UserError(f"{request.url.partition('?')[0]} leads to another address. Give that one.")
    pieces = response.iter_content

    def counted(*arguments: Any, **named: Any) -> Iterator[bytes]:
        total = 0
        for piece in pieces(*arguments, **named):
            total += len(piece)
            if total > limit:
                response.close()
                raise UserError(f"{request.url.partition('?')[0]} sends more than {limit:,} bytes. Give one series.")
            yield piece

    response.iter_content = counted  # type: ignore[method-assign]
    return response
