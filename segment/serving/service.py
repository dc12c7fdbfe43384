"""The queue of jobs and the workers that empty it: every job is answered, or its client is told why not."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from segment.errors import UserError
from segment.serving.jobs import CANCELLED, DONE, FAILED, INPUT, QUEUED, RUNNING, Job
from segment.serving.kept import kept_jobs, record
from segment.serving.link import Link

DEPTH = 3  # scans that a worker has at once: one is read, one predicted, one written
ATTEMPTS = 2
PATIENCE = 10.0  # seconds in which a worker must leave a job that was given up, or is ended
TICK = 0.5
MAX_PAUSE = 60.0  # seconds before a worker that ends at once is started again


class Busy(UserError):
    """The queue is full, or the server is about to stop.

    Args:
        message: What to tell the client.
        status: HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Process(Protocol):
    """What the service needs of a worker's process."""

    def kill(self) -> None:
        """End it at once."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""


Start = Callable[[], tuple[Connection, Process]]
"""Starts a worker and returns the server's end of the pipe to it."""
OnFinished = Callable[[Job], None]
"""Called with each job that is over."""


@dataclass
class _WorkerState:
    """A worker as the service sees it."""

    link: Link | None = None
    process: Process | None = None
    ready: bool = False
    jobs: dict[str, Job] = field(default_factory=dict)
    pause: float = 1.0


class Service:
    """Hands scans to workers, and keeps what became of them.

    Args:
        start: Starts a worker.
        models: Names of the models that every worker has.
        workers: Number of workers.
        queue: Jobs that may wait besides those that workers have.
        timeout: Seconds that reading a scan, and predicting it, may take.
        keep: Seconds that an answer is kept for a client that asks for it later.
        parent: Where to put the folder of jobs; None: the system's folder of temporary files.
        lasting: A folder of jobs in place of that one, in which jobs that nobody waits for are left for the next
            server, see `segment.serving.kept`.
        on_finished: Called with each job that is over.
    """

    def __init__(
        self,
        start: Start,
        models: Mapping[str, str],
        workers: int = 1,
        queue: int = 32,
        timeout: float = 600,
        keep: float = 600,
        parent: Path | None = None,
        lasting: Path | None = None,
        on_finished: OnFinished = lambda job: None,
    ) -> None:
        self.start_worker, self.models = start, models
        self.queue, self.timeout, self.keep, self.on_finished = queue, timeout, keep, on_finished
        self.lasting = lasting is not None
        self.folder = lasting or Path(tempfile.mkdtemp(prefix="segment-serve-", dir=parent))
        self.jobs: dict[str, Job] = {}
        self.described: dict[str, Any] = {}
        self.unusable = ""
        self.stopping = False
        self.restarts = 0
        self._uploading: set[Job] = set()
        self._waiting: deque[Job] = deque()
        self._workers = [_WorkerState() for _ in range(workers)]
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_unusable: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        """Whether a scan would be predicted now."""
        return not self.stopping and any(worker.ready for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Number of jobs that no worker has."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Number of jobs that workers have."""
        return sum(len(worker.jobs) for worker in self._workers)

    async def begin(self) -> None:
        """Take up the jobs of the server before, and start the workers, which takes them seconds."""
        for job in kept_jobs(self.folder, self.models) if self.lasting else ():
            self.jobs[job.id] = job
            if not job.over:
                self._waiting.append(job)
        for worker in self._workers:
            self._begin(worker)
        self._spawn(self._tick())

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, worker: _WorkerState) -> None:
        connection, worker.process = self.start_worker()
        worker.link = Link(connection)
        asyncio.get_running_loop().add_reader(connection.fileno(), self._receive, worker)

    def new_job(self, model: str, kind: str, name: str = "scan") -> Job:
        """Create a job with an empty folder for its upload.

        Raises:
            Busy: When the queue is full (429) or the server is about to stop (503).
            UserError: When there is no such model.
        """
        if model not in self.models:
            raise UserError(f"model={model}: is not served. There are: {', '.join(self.models)}.")
        self._require_room()
        job = Job(model, self.folder, kind, name)
        job.folder = self.folder / job.id
        (job.folder / INPUT).mkdir(parents=True)
        self._uploading.add(job)
        return job

    def _require_room(self) -> None:
        if self.stopping:
            raise Busy("The server is about to stop. Send the scan to another one.", 503)
        if (before := self.waiting + len(self._uploading)) >= self.queue:
            raise Busy(f"{before} scans are waiting already. Send it again in a while.", 429)

    def discard(self, job: Job) -> None:
        """Remove a job whose upload has failed."""
        self._uploading.discard(job)
        job.remove()

    def release(self, job: Job) -> None:
        """Keep the upload of a job that is not queued, without its place in the queue."""
        self._uploading.discard(job)

    def submit(self, job: Job) -> None:
        """Queue a job whose upload is complete.

        Raises:
            OSError: When it is to outlast the server, and the disk is full.
        """
        if self.lasting and job.lasting:
            record(job)
        self._uploading.discard(job)
        self.jobs[job.id] = job
        self._waiting.append(job)
        self._dispatch()

    def again(self, job: Job, kind: str) -> Job:
        """Queue, before all others, a job that writes the mask of a finished one in another format.

        Raises:
            Busy: As `new_job`.
        """
        other = job.others.get(kind)
        if other is None or other.state in (FAILED, CANCELLED):
            other = Job(job.model, job.folder / uuid.uuid4().hex, kind, job.name, source=job)
            self._require_room()
            other.folder.mkdir()
            job.others[kind] = other
            self._waiting.appendleft(other)
            self._dispatch()
        return other

    def cancel(self, job: Job) -> None:
        """Give up a job; nothing happens if it is over."""
        if job.over:
            return
        self._leave(job)
        job.change(CANCELLED)
        self._tell(job)

    def forget(self, job: Job) -> None:
        """Remove a job that is over, and its files, as soon as no worker has them."""
        self.jobs.pop(job.id, None)
        if not any(job.id in worker.jobs for worker in self._workers):
            job.remove()

    def _tell(self, job: Job) -> None:
        """Count a job that is over, and keep its answer on disk if it is to outlast the server."""
        if job.source is not None:
            return
        self.on_finished(job)
        self._keep(job)

    def _keep(self, job: Job) -> None:
        """Note on disk what has become of a job that is to outlast the server."""
        if self.lasting and job.lasting and job.id in self.jobs:
            with contextlib.suppress(OSError):  # the next server does again what this one has done
                record(job)

    def _leave(self, job: Job) -> None:
        """Take a job out of the queue, or tell its worker to leave it."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(job)
        for worker in self._workers:
            if job.id in worker.jobs and worker.link is not None:
                job.abandoned = time.monotonic()
                with contextlib.suppress(OSError):
                    worker.link.send("cancel", id=job.id)

    def _dispatch(self) -> None:
        """Hand out what waits. A scan that a worker ended with is alone with the next one."""
        for worker in self._workers:
            while self._waiting and worker.ready and worker.link is not None and self._takes(worker, self._waiting[0]):
                job = self._waiting.popleft()
                worker.jobs[job.id] = job
                job.starts += 1
                self._keep(job)
                try:
                    worker.link.send("predict", id=job.id, **job.task)
                except OSError:  # it has ended, which its pipe will tell
                    break

    @staticmethod
    def _takes(worker: _WorkerState, job: Job) -> bool:
        alone = job.attempts > 0 or any(one.attempts > 0 for one in worker.jobs.values())
        return len(worker.jobs) < (1 if alone else DEPTH)

    def _receive(self, worker: _WorkerState) -> None:
        """Handle a message of a worker, or its end."""
        assert worker.link is not None
        try:
            message = worker.link.receive()
        except (EOFError, OSError, ValueError):
            self._ended(worker)
            return
        event = message["event"]
        if event == "ready":
            worker.ready, worker.pause = True, 1.0
            self.described = dict(message["models"])
        elif event == "unusable":
            self.unusable = message["detail"]
            self.on_unusable()
        elif (job := worker.jobs.get(message.get("id", ""))) is not None:
            self._update(worker, job, message)
        self._dispatch()

    def _update(self, worker: _WorkerState, job: Job, message: Mapping[str, Any]) -> None:
        """Handle a message about a job."""
        event = message["event"]
        if event in ("reading", "predicting"):
            job.change(RUNNING)
            job.deadline = time.monotonic() + self.timeout
        elif event == "read":
            job.deadline = None
            job.answer |= {key: message[key] for key in ("features", "scanner")}
        elif event == "progress":
            job.change(progress=message["share"])
        else:
            del worker.jobs[job.id]
            was_over = job.over
            self._finish(job, event, message)
            if was_over and job.id not in self.jobs:
                job.remove()
            elif not was_over:
                self._tell(job)

    @staticmethod
    def _finish(job: Job, event: str, message: Mapping[str, Any]) -> None:
        if event == "done" and not job.over:
            job.mask = job.folder / Path(str(message["mask"])).name
            told = {key: message[key] for key in ("seconds", "volumes_ml", "notes", "encoder")}
            features = job.answer.get("features", {}) | message["features"]
            job.answer = {**told, "features": features, "scanner": job.answer.get("scanner", {})}
            job.change(DONE, 1.0)
        elif event == "failed":
            job.fail(int(message["status"]), str(message["detail"]))
        elif event == "cancelled":
            job.change(CANCELLED)

    def _ended(self, worker: _WorkerState) -> None:
        """Start another worker in place of one that has ended, and give it the jobs once more."""
        assert worker.link is not None
        assert worker.process is not None
        asyncio.get_running_loop().remove_reader(worker.link.connection.fileno())
        worker.link.close()
        worker.process.kill()
        lost, worker.jobs, worker.ready, worker.link = list(worker.jobs.values()), {}, False, None
        for job in reversed(lost):
            job.attempts += 1
            job.deadline = None
            if job.over:
                self.forget(job) if job.id not in self.jobs else None
            elif job.attempts >= ATTEMPTS:
                job.fail(503, f"The worker ended {job.attempts} times while it had this scan. It was not predicted.")
                self._tell(job)
            else:
                job.change(QUEUED)
                self._waiting.appendleft(job)
        if not self.stopping and not self.unusable:
            self.restarts += 1
            print(f"segment: a worker ended; {len(lost)} scan(s) are predicted anew.", file=sys.stderr, flush=True)
            self._spawn(self._begin_again(worker))

    async def _begin_again(self, worker: _WorkerState) -> None:
        await asyncio.sleep(worker.pause)
        worker.pause = min(MAX_PAUSE, 2 * worker.pause)
        if not self.stopping:
            self._begin(worker)

    async def _tick(self) -> None:
        """End what takes too long, and remove what is kept long enough."""
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            for worker in self._workers:
                for job in list(worker.jobs.values()):
                    if job.deadline is not None and now > job.deadline and not job.over:
                        self._leave(job)
                        job.fail(504, f"The scan took longer than {self.timeout:g} s. It was given up.")
                        self._tell(job)
                stuck = any(job.abandoned and now > job.abandoned + PATIENCE for job in worker.jobs.values())
                if stuck and worker.process is not None and worker.link is not None:
                    worker.process.kill()
            for job in [one for one in self.jobs.values() if one.finished and now > one.finished + self.keep]:
                self.forget(job)

    async def drain(self, seconds: float) -> None:
        """Accept nothing more, wait for all jobs, but no longer than given, and put the others back or tell them."""
        self.stopping = True
        deadline = time.monotonic() + seconds
        while (self.waiting or self.running) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        begun = [job for worker in self._workers for job in worker.jobs.values()]
        for job in {*self.jobs.values(), *self._waiting, *begun}:
            if self.lasting and job.lasting and not job.put_back and not job.over:
                job.put_back = True
                job.starts -= job in begun
                self._keep(job)
                job.change()
            elif not job.over and not job.put_back:
                self._leave(job)
                job.fail(503, "The server has stopped before it predicted the scan. Send it to another one.")
                self._tell(job)

    async def end(self) -> None:
        """End the workers and remove all files but those of jobs that are put back."""
        self.stopping = True
        for task in list(self._tasks):
            task.cancel()
        for worker in self._workers:
            if worker.link is not None and worker.process is not None:
                asyncio.get_running_loop().remove_reader(worker.link.connection.fileno())
                worker.link.close()
                await asyncio.to_thread(worker.process.join, 2.0)
                worker.process.kill()
        for place in list(self.folder.iterdir()):
            if not self.lasting or place.name not in self.jobs or not self.jobs[place.name].lasting:
                shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty
            self.folder.rmdir()
