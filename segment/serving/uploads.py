"""What clients send, streamed to disk: nothing is read here but the first bytes, and no name of theirs is used."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException

from segment.io.dicom.files import is_dicom
from segment.io.formats import stem, suffix, suffixes
from segment.serving.jobs import INPUT, Job

FIELD = "file"
MAX_PARTS = 10_000  # files of a multipart body, such as the slices of a series
MAX_FIELDS = 20
MAX_FIELD = 1 << 16  # bytes of a field that is no file
_HEAD = 512
_TYPES = {
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
    "application/dicom": ".dcm",
    "application/x-nifti": ".nii",
    "application/vnd.unknown.nifti-1": ".nii",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/tiff": ".tif",
}
_STARTS = {
    b"\x1f\x8b": ".nii.gz",
    b"PK\x03\x04": ".zip",
    b"NRRD000": ".nrrd",
    b"ObjectType": ".mha",
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
_UNNAMED = re.compile(r"[^A-Za-z0-9._-]+")


async def receive(
    request: Request, job: Job, seconds: float, name: str | None = None, field: str = FIELD
) -> FormData | None:
    """Write the body of a request into the folder of a job.

    Args:
        request: Its body is a scan, or a multipart form whose fields ``file`` are one: a file, a zip file, the slices
            of a DICOM series, or one file for each channel in order.
        job: Its name becomes that of the scan.
        seconds: In which the body must arrive.
        name: File name of a plain body; None: as the request says.
        field: The name of the fields of files, if a client has another.

    Returns:
        The other fields of a form; None for a plain body.

    Raises:
        HTTPException: When it takes too long (408), is damaged, empty or of unknown format (422).
    """
    folder = job.folder / INPUT
    try:
        async with asyncio.timeout(seconds):
            if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                return await _form(request, job, folder, field)
            given = (
                name or request.query_params.get("name") or _disposition(request.headers.get("content-disposition", ""))
            )
            await _body(request, folder / "part")
    except TimeoutError:
        raise HTTPException(408, f"The body did not arrive within {seconds:g} s.") from None
    except MultiPartException as error:
        raise HTTPException(422, f"The multipart body is damaged: {error.message}") from None
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    await asyncio.to_thread(name_files, job, [(folder / "part", given, kind)])
    return None


async def _body(request: Request, target: Path) -> None:
    with target.open("wb") as sink:
        async for block in request.stream():
            await asyncio.to_thread(sink.write, block)


async def _form(request: Request, job: Job, folder: Path, field: str) -> FormData:
    form = await request.form(max_files=MAX_PARTS, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD)
    files = [item for item in form.getlist(field) if isinstance(item, UploadFile)]
    if not files:
        raise HTTPException(422, f"The form has no file in a field {field!r}. Send the scan there.")
    parts = []
    for number, item in enumerate(files):
        target = folder / f"part{number}"
        await asyncio.to_thread(_copy, item, target)
        parts.append((target, item.filename or "", item.content_type or ""))
    await form.close()
    await asyncio.to_thread(name_files, job, parts)
    return FormData([(key, value) for key, value in form.multi_items() if isinstance(value, str)])


def _copy(source: UploadFile, target: Path) -> None:
    with target.open("xb") as sink:
        shutil.copyfileobj(source.file, sink, 1 << 20)


def _disposition(text: str) -> str:
    """The file name of a Content-Disposition header."""
    found = re.search(r'filename="?([^";]{1,300})"?', text)
    return found[1] if found else ""


def name_files(job: Job, parts: Sequence[tuple[Path, str, str]]) -> None:
    """Give the files names of our own with the suffixes of their formats.

    Args:
        job: It gets the name that the client gave the first.
        parts: File, name that the client gave it, and its type.
    """
    ends = [_suffix(*part) for part in parts]
    given = Path(parts[0][1].replace("\\", "/")).name
    job.name = _UNNAMED.sub("-", stem(given.removesuffix(".zip"))).strip("-.")[:100] or "scan"
    for number, ((file, _, _), end) in enumerate(zip(parts, ends, strict=True)):
        several = "" if len(parts) == 1 else f"_{number:04d}"
        file.rename(file.with_name(f"scan{several}{end}"))


def _suffix(file: Path, given: str, kind: str) -> str:
    """The suffix of a file's format, from its name, its type or its first bytes."""
    if not file.stat().st_size:
        raise HTTPException(422, "The scan is empty: no byte was received.")
    if given.lower().endswith(".zip"):
        return ".zip"
    if given and (end := suffix(given)) in suffixes():
        return end
    if end := _TYPES.get(kind.split(";")[0].strip().lower(), ""):
        return end
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    for start, end in _STARTS.items():
        if head.startswith(start):
            return end
    if head[344:348] in (b"n+1\0", b"n+2\0") or head[4:8] == b"n+2\0":
        return ".nii"
    if is_dicom(file):
        return ".dcm"
    known = ", ".join((*suffixes(), ".zip"))
    raise HTTPException(422, f"The format of the scan is unknown. Send it under its file name; formats read: {known}.")
