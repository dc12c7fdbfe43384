"""One scan to predict: what it needs, how far it is, and how it ended."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
OVER = (DONE, FAILED, CANCELLED)
INPUT, PREVIEW = "input", "preview.json"


@dataclass(eq=False)
class Job:
    """A scan to predict, in a folder of its own.

    Attributes:
        model: Name of the model.
        folder: Holds the upload in ``input/`` and, once done, the mask.
        kind: Format of the mask: ``own``, the scan's, or one of `segment.io.mask_formats.ENDINGS`.
        name: What the client calls the scan, for the name of the answer.
        preview: Whether small volumes for the page's viewer are made.
        id: Unguessable, since it is all that another client would need to read the mask.
        state: One of `QUEUED`, `RUNNING`, `DONE`, `FAILED`, `CANCELLED`.
        progress: Share of the scan that is predicted, in [0, 1].
        status: HTTP status of the failure.
        detail: Why it failed, one paragraph.
        mask: File of the mask.
        answer: What the worker tells about the prediction, such as seconds and volumes.
        lasting: Nobody waits for it, so that it outlasts the server, see `segment.serving.kept`.
        queued: `time.time` of its creation, by which the next server orders.
        starts: How often a worker was given it by a server that did not stop in order.
        source: The finished job whose mask it writes in another format; its folder is in that one's.
        others: Of a finished job: those that write its mask, by format.
        attempts: How many workers have ended while they had it.
        deadline: `time.monotonic` after which the worker is taken to hang; None while it waits.
        abandoned: Given up for the client, but not yet by the worker.
        finished: `time.monotonic` of its end.
        put_back: The server has stopped, and the next one goes on with it.
    """

    model: str
    folder: Path
    kind: str = "own"
    name: str = "scan"
    preview: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: str = QUEUED
    progress: float = 0.0
    status: int = 200
    detail: str = ""
    mask: Path | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    lasting: bool = False
    queued: float = field(default_factory=time.time)
    starts: int = 0
    source: Job | None = field(default=None, repr=False)
    others: dict[str, Job] = field(default_factory=dict, repr=False)
    attempts: int = 0
    deadline: float | None = None
    abandoned: float | None = None
    created: float = field(default_factory=time.monotonic)
    finished: float | None = None
    put_back: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in OVER

    @property
    def task(self) -> dict[str, Any]:
        """What a worker needs to know."""
        told = {"model": self.model, "folder": str(self.folder), "kind": self.kind}
        return told | {"preview": self.preview, "lasting": self.lasting, "again": self.source is not None}

    @property
    def described(self) -> dict[str, Any]:
        """What clients are told."""
        told: dict[str, Any] = {"id": self.id, "model": self.model, "state": self.state}
        told["progress"] = round(self.progress, 3)
        if self.state == FAILED:
            told |= {"status": self.status, "detail": self.detail}
        if self.put_back and not self.over:
            told["detail"] = "The server stops. The scan is predicted when it is started again."
        if self.state == DONE:
            told |= {key: self.answer[key] for key in ("seconds", "volumes_ml", "notes") if key in self.answer}
        return told

    def change(self, state: str | None = None, progress: float | None = None) -> None:
        """Set the state or progress, and wake up everybody who waits for a change."""
        if self.over:
            return
        self.state = state or self.state
        self.progress = self.progress if progress is None else max(self.progress, min(1.0, progress))
        if self.over:
            self.finished, self.deadline = time.monotonic(), None
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def fail(self, status: int, detail: str) -> None:
        """End it with a reason."""
        if not self.over:
            self.status, self.detail = status, detail
            self.change(FAILED)

    async def changes(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what clients are told, now and after every change, until it is over or the server stops."""
        while True:
            changed = self._changed
            yield self.described
            if self.over or self.put_back:
                return
            await changed.wait()

    async def ended(self) -> None:
        """Wait until it is over."""
        while not self.over:
            await self._changed.wait()

    def remove(self) -> None:
        """Remove its files."""
        shutil.rmtree(self.folder, ignore_errors=True)
