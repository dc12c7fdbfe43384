"""The process that reads scans and predicts them; whatever a scan does to it, the server goes on."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import queue
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from segment.data.archives import Limits, unpack
from segment.errors import UserError
from segment.failures import explain_failure
from segment.files import write_text, written_whole
from segment.io.geometry import canonical_grid, to_canonical
from segment.io.images import Image
from segment.memory import InsufficientMemory
from segment.serving.details import encoder_features, quality_features, require_encoder, room_for_probabilities
from segment.serving.features import image_features, mask_features, scanner_tags
from segment.serving.jobs import INPUT, PREVIEW
from segment.serving.link import Link
from segment.serving.served import ENCODER, QUALITY, How, Served, load_served

UNREADABLE, TOO_LARGE, BROKEN, FULL = 422, 413, 500, 507
VOXELS = "voxels.npz"
STEP = 0.1  # seconds between two reports of progress
MAX_FILES = 20_000  # of a zip file


@dataclass(frozen=True)
class Task:
    """A scan that the server wants predicted.

    Attributes:
        id: Of its job.
        model: Name of the model.
        folder: The job's.
        kind: Format of the mask.
        preview: Whether to make small volumes for the page's viewer.
        lasting: Whether the mask may be asked for in other formats later.
        again: Whether the mask was predicted, and is only to be written; the folder is then in that of its job.
    """

    id: str
    model: str
    folder: Path
    kind: str
    preview: bool
    lasting: bool
    again: bool


class _Cancelled(Exception):
    """The client has given up."""


class Worker:
    """Reads the next scan and writes the last mask while it predicts one, as `segment predict` does.

    Args:
        link: To the server.
        models: By name.
        unpacked: Bytes that a zip file may unpack to.
        more: What else the log tells: `ENCODER`, `QUALITY`.

    Raises:
        UserError: When a model has no encoder whose features could be told.
    """

    def __init__(self, link: Link, models: Mapping[str, Served], unpacked: int, more: Collection[str] = ()) -> None:
        self.link, self.models, self.unpacked, self.more = link, models, unpacked, more
        self.encoders = {name: require_encoder(one, name) for name, one in models.items() if ENCODER in more}
        self._tasks: queue.Queue[Task | None] = queue.Queue()
        self._read: queue.Queue[tuple[Task, Any] | None] = queue.Queue(1)
        self._cancelled: set[str] = set()

    def run(self) -> None:
        """Work until the server closes its end."""
        for target in (self._receive, self._read_all):
            threading.Thread(target=target, daemon=True).start()
        writing: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer, contextlib.suppress(OSError):
            while (item := self._read.get()) is not None:
                task, scan = item
                result = self._guarded(task, functools.partial(self._predict, task, scan))
                del item, scan
                if writing is not None:
                    writing.result()
                if result is not None:
                    writing = writer.submit(self._guarded, task, functools.partial(self._write, task, result))
                del result

    def _receive(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                message = self.link.receive()
                if message["event"] == "cancel":
                    self._cancelled.add(message["id"])
                else:
                    more = (message[key] for key in ("kind", "preview", "lasting", "again"))
                    self._tasks.put(Task(message["id"], message["model"], Path(message["folder"]), *more))
        self._tasks.put(None)

    def _read_all(self) -> None:
        with contextlib.suppress(OSError):
            while (task := self._tasks.get()) is not None:
                step = self._write_again if task.again else self._read_one
                scan = self._guarded(task, functools.partial(step, task))
                if scan is not None:
                    self._read.put((task, scan))
                del scan
        self._read.put(None)

    def _guarded(self, task: Task, step: Callable[[], Any]) -> Any:
        """Run a step of a task; None if it fails, which the server is told."""
        try:
            self._require_wanted(task)
            return step()
        except _Cancelled:
            self._cancelled.discard(task.id)
            self.link.send("cancelled", id=task.id)
        except InsufficientMemory as error:
            self._fail(task, TOO_LARGE, str(error))
        except UserError as error:
            self._fail(task, UNREADABLE, str(error))
        except Exception as error:
            self._fail(task, *_explained(error))
        return None

    def _fail(self, task: Task, status: int, detail: str) -> None:
        """Tell the server why, without its own paths."""
        for folder in (f"{task.folder / INPUT}{os.sep}", f"{task.folder}{os.sep}", str(task.folder)):
            detail = detail.replace(folder, "")
        self.link.send("failed", id=task.id, status=status, detail=detail)

    def _require_wanted(self, task: Task) -> None:
        if task.id in self._cancelled:
            raise _Cancelled

    def _read_one(self, task: Task) -> tuple[str, list[Path], Image, Any]:
        """Find, read and prepare the scan of a task."""
        self.link.send("reading", id=task.id)
        served = self.models[task.model]
        name, files = found_scan(task.folder / INPUT, len(served.model.channels), task.kind, self.unpacked)
        image, prepared = served.predictor.read_both(files)
        self.link.send("read", id=task.id, features=image_features(image), scanner=scanner_tags(files[0]))
        if not task.preview:  # its voxels are not needed any more
            image = Image(image.array[:0], image.grid)
        return name, files, image, prepared

    def _predict(self, task: Task, scan: tuple[str, list[Path], Image, Any]) -> Any:
        """The mask of a scan that was read."""
        name, files, image, prepared = scan
        self.link.send("predicting", id=task.id)
        served, began = self.models[task.model], time.perf_counter()
        parts = prepared if isinstance(prepared, list) else [prepared]
        watch = _Watch(self.link, task.id, [part[0].shape for part in parts], lambda: self._require_wanted(task))
        kept = room_for_probabilities(served, image.grid.shape, task.folder) if QUALITY in self.more else None
        mask = served.model.labels.decode(served.predictor.predict_read(files, prepared, watch, kept))
        seconds = time.perf_counter() - began
        encoder = encoder_features(self.encoders[task.model], served, prepared) if ENCODER in self.more else []
        return name, files, image, mask, seconds, kept, encoder

    def _write(self, task: Task, result: Any) -> None:
        """Write the mask, and tell the server."""
        from segment.io.masks import write_mask

        name, files, image, mask, seconds, kept, encoder = result
        served = self.models[task.model]
        path = task.folder / f"mask-{name}"
        write_mask(path, mask, files[0], task.kind, served.naming)
        if task.lasting:
            with written_whole(task.folder / VOXELS) as temporary:
                np.savez_compressed(temporary, mask=mask)
        if task.preview:
            write_text(task.folder / PREVIEW, json.dumps(_preview(image, served.model.labels.encode(mask))))
        found = mask_features(mask, image.grid, served.naming.labels)
        if kept is not None:
            labels = served.model.labels
            found |= quality_features(kept[: labels.outputs], labels.encode(mask), labels)
        volumes = {label: round(found[f"volume_{label}"], 3) for label in served.naming.labels}
        self.link.send(
            "done",
            id=task.id,
            mask=path.name,
            seconds=round(seconds, 3),
            volumes_ml=volumes,
            notes=list(served.notes),
            features=found,
            encoder=encoder,
        )

    def _write_again(self, task: Task) -> None:
        """Write the mask of a job that is done in another format."""
        from segment.io.masks import write_mask

        self.link.send("predicting", id=task.id)
        served, source = self.models[task.model], task.folder.parent
        try:
            with np.load(source / VOXELS, allow_pickle=False) as held:
                mask = held["mask"]
            name, files = found_scan(source / INPUT, len(served.model.channels), task.kind, self.unpacked)
        except OSError:
            raise UserError("The job was removed meanwhile.") from None
        write_mask(task.folder / f"mask-{name}", mask, files[0], task.kind, served.naming)
        self.link.send(
            "done", id=task.id, mask=f"mask-{name}", seconds=0, volumes_ml={}, notes=[], features={}, encoder=[]
        )


class _Watch:
    """Reports the share of a scan's planes that are predicted, and ends a prediction that nobody wants any more."""

    def __init__(self, link: Link, name: str, shapes: list[Any], check: Callable[[], None]) -> None:
        self.link, self.id, self.shapes, self.check = link, name, shapes, check
        self.part, self.last, self.told = 0, -1, time.monotonic()

    def __call__(self, axis: int, index: int, plane: Any) -> None:
        self.check()
        if index < self.last:  # the next of several plans
            self.part += 1
        self.last = index
        if time.monotonic() - self.told >= STEP:
            shape = self.shapes[min(self.part, len(self.shapes) - 1)]
            length = shape[axis + 1] if len(shape) == 4 else 1
            self.link.send("progress", id=self.id, share=(self.part + (index + 1) / length) / len(self.shapes))
            self.told = time.monotonic()


def found_scan(folder: Path, channels: int, kind: str, unpacked: int) -> tuple[str, list[Path]]:
    """Find the one scan of an upload.

    Args:
        folder: Its files; a zip file is unpacked here.
        channels: Channels of the model.
        kind: Format of the mask.
        unpacked: Bytes that a zip file may unpack to.

    Returns:
        (name of the mask file, the scan's image files in channel order).

    Raises:
        UserError: When there is none, more than one, or an archive or file that is damaged.
    """
    from segment.inference.inputs import find_scans, renamed

    archive, inside = folder / "scan.zip", folder / "zip"
    if archive.exists():
        shutil.rmtree(inside, ignore_errors=True)  # half of it, if a worker has ended here
        inside.mkdir()
        unpack(archive, inside, Limits(unpacked, MAX_FILES), archive.name)
        archive.unlink()
    files = sorted(folder.iterdir())
    source = files[0] if len(files) == 1 else folder
    try:
        scans = renamed(find_scans(source, channels), kind)
    except UserError as error:
        raise UserError(str(error).replace(f"input={source}", "file")) from error
    if len(scans) != 1:
        names = ", ".join(name for name, _ in scans[:5])
        raise UserError(f"file: holds {len(scans)} scans ({names}). Send one at a time.")
    return scans[0]


def _preview(image: Image, classes: np.ndarray) -> dict[str, Any] | None:
    """Small volumes for the page's viewer; None for a 2D image."""
    from segment.report.viewer import viewer_volumes
    from segment.runs.voxels import ScanVoxels

    turned, mask = to_canonical(image.array, image.grid), to_canonical(classes, image.grid)
    return viewer_volumes(ScanVoxels(turned, mask, mask, canonical_grid(image.grid), int(classes.max()) + 1))


def _explained(error: Exception) -> tuple[int, str]:
    """Status and reason of an exception that no reader has foreseen."""
    if isinstance(error, MemoryError):
        return TOO_LARGE, "The scan needs more memory than the server has. Send a smaller one."
    if message := explain_failure(error):
        return FULL, message
    traceback.print_exception(error)
    return BROKEN, "The server has made a mistake, which its operator finds in its log. The scan was not predicted."


def serve_link(
    connection: Connection, models: Mapping[str, str], how: How, unpacked: int, more: Collection[str] = ()
) -> None:
    """Load the models, tell the server, and work.

    Args:
        connection: To the server.
        models: Name to folder.
        how: How they predict.
        unpacked: Bytes that a zip file may unpack to.
        more: What else the log tells, see `Worker`.
    """
    link = Link(connection)
    try:
        loaded = {name: load_served(folder, how) for name, folder in models.items()}
        worker = Worker(link, loaded, unpacked, more)
    except UserError as error:
        with contextlib.suppress(OSError):
            link.send("unusable", detail=str(error))
        return
    with contextlib.suppress(OSError):
        link.send("ready", models={name: served.described for name, served in loaded.items()})
        worker.run()


def main(
    connection: Connection, models: Mapping[str, str], how: How, unpacked: int, more: Collection[str] = ()
) -> None:
    """A worker process: the server alone decides when it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_server, daemon=True).start()
    serve_link(connection, models, how, unpacked, more)


def _end_with_server() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
