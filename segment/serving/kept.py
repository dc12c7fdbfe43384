"""Jobs that no request waits for, kept on disk: a stop of the server, or its sudden end, does not lose them."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.files import write_json
from segment.io.mask_formats import ENDINGS
from segment.locks import holding
from segment.serving.jobs import CANCELLED, DONE, FAILED, INPUT, Job

RECORD = "job.json"
LARGEST = 1 << 22  # bytes of a record
MOST_STARTS = 5  # of servers that end before they have predicted a scan, which may be the reason
_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def record(job: Job) -> None:
    """Write what is needed to go on with a job, or to give its answer, into its folder."""
    told = {
        key: getattr(job, key) for key in ("model", "kind", "name", "preview", "queued", "starts", "status", "detail")
    }
    answer = {key: job.answer[key] for key in ("seconds", "notes", "volumes_ml") if key in job.answer}
    told |= {"state": job.state if job.over else "", "answer": answer}
    told["mask"] = None if job.mask is None else job.mask.name
    write_json(job.folder / RECORD, told)


def kept_jobs(folder: Path, models: Mapping[str, str]) -> Iterator[Job]:
    """The jobs of a server that has ended; whatever else it has left behind is removed.

    Args:
        folder: Of the jobs.
        models: Names of the models that are served now; jobs of others fail.

    Yields:
        In the order in which they came: jobs that are over, with their answers, and others as before they were queued.
    """
    found = []
    for place in folder.iterdir():
        job = _read(place) if _ID.fullmatch(place.name) and place.is_dir() and not place.is_symlink() else None
        found.append(job) if job is not None else _remove(place)
    for job in sorted(found, key=lambda one: one.queued):
        if job.over:
            yield job
            continue
        for left in job.folder.iterdir():  # of a worker that has ended
            if left.name not in (INPUT, RECORD):
                _remove(left)
        if job.model not in models:
            job.fail(503, f"The server was started without the model {job.model}. The scan was not predicted.")
        elif job.starts >= MOST_STARTS:
            job.fail(503, f"The server ended {job.starts} times before it predicted the scan. It was given up.")
        yield job


def _remove(place: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()


def _read(place: Path) -> Job | None:
    """The job of a folder; None without a record that can be read."""
    try:
        with (place / RECORD).open("rb") as stream:
            told = json.loads(stream.read(LARGEST))
        job = Job(str(told["model"]), place, str(told["kind"]), str(told["name"]), bool(told["preview"]), place.name)
        job.lasting, job.starts, job.queued = True, int(told["starts"]), float(told["queued"])
        if job.kind not in ("own", *ENDINGS) or not _NAME.fullmatch(job.name) or not (place / INPUT).is_dir():
            return None
        _restore(job, told)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return job


def _restore(job: Job, told: Mapping[str, Any]) -> None:
    """Set how a job has ended, if it has."""
    if told["state"] == DONE:
        job.mask = job.folder / Path(str(told["mask"])).name
        if not job.mask.is_file():
            raise ValueError("its mask is missing")
        answer = told["answer"]
        job.answer = {"seconds": float(answer["seconds"]), "notes": [str(note) for note in answer["notes"]]}
        job.answer["volumes_ml"] = {str(label): float(ml) for label, ml in answer["volumes_ml"].items()}
        job.change(DONE, 1.0)
    elif told["state"] == FAILED:
        job.fail(int(told["status"]), str(told["detail"]))
    elif told["state"] == CANCELLED:
        job.change(CANCELLED)


@contextlib.contextmanager
def lasting_folder(parent: Path) -> Iterator[Path]:
    """The folder of jobs that servers with the same ``folder=`` have one after the other.

    Args:
        parent: Exists.

    Yields:
        The folder, created if missing.

    Raises:
        UserError: When it cannot be created, or another server has it.
    """
    folder = parent / "segment-serve"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with holding(parent / ".segment-serve.lock", wait=False) as ours:
            if not ours:
                raise UserError(f"folder={parent}: another server is using it. Stop that one, or give another folder.")
            yield folder
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(parent)):
            raise
        raise UserError(f"folder={parent}: cannot be written ({error.strerror}). Give another.") from None
