"""A server in this process, whose workers are threads; and one whose workers do what a test says."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from segment.serving.app import Rules, create_app
from segment.serving.link import Link
from segment.serving.log import Log
from segment.serving.served import How
from segment.serving.service import Service
from segment.serving.worker import serve_link

OLD = Path(__file__).parents[1] / "fixtures" / "runs_of_november_2026"
SCAN = OLD / "scans/imagesTr/case_0.nii.gz"


class Thread(threading.Thread):
    """A worker that ends, as the server sees it, when its end of the pipe is closed."""

    def __init__(self, target: Callable[[Connection], object]) -> None:
        self.ours, self.theirs = Pipe()
        super().__init__(target=self._work, args=(target,), daemon=True)
        self.start()

    def _work(self, target: Callable[[Connection], object]) -> None:
        with contextlib.suppress(OSError, EOFError):
            target(self.theirs)

    def kill(self) -> None:
        """Close its pipe, also while it waits for a message."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.theirs.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def client_of(
    work: Callable[[Connection], object],
    models: Mapping[str, str],
    rules: Rules | None = None,
    log: Log | None = None,
    **options: Any,
) -> Iterator[TestClient]:
    """A client of a server whose workers run a function in a thread; `client.service` is the service."""

    def start() -> tuple[Connection, Thread]:
        thread = Thread(work)
        return thread.ours, thread

    service = Service(start, models, **options)
    with TestClient(create_app(service, rules or Rules(), log), raise_server_exceptions=False) as client:
        client.service = service  # type: ignore[attr-defined]
        yield client


@contextlib.contextmanager
def serving(
    models: Mapping[str, str], unpacked: int = 1 << 24, more: Collection[str] = (), **options: Any
) -> Iterator[TestClient]:
    """A client of a server of real models."""
    with client_of(lambda end: serve_link(end, models, How(), unpacked, more), models, **options) as client:
        yield client


class Scripted:
    """A worker without a model.

    Args:
        act: Called with the link and each message of the server.
    """

    def __init__(self, act: Callable[[Link, Mapping[str, Any]], object]) -> None:
        self.act = act
        self.started = 0

    def __call__(self, connection: Connection) -> None:
        self.started += 1
        link = Link(connection)
        link.send("ready", models={"made": {}})
        while True:
            self.act(link, link.receive())


def answer(link: Link, message: Mapping[str, Any]) -> None:
    """Write a mask at once: the upload itself."""
    if message["event"] == "predict":
        folder = Path(message["folder"])
        link.send("reading", id=message["id"])
        link.send("read", id=message["id"], features={}, scanner={})
        (folder / "mask-scan.nii.gz").write_bytes(next((folder / "input").iterdir()).read_bytes())
        more = {"seconds": 0.0, "volumes_ml": {}, "notes": [], "features": {}, "encoder": []}
        link.send("done", id=message["id"], mask="mask-scan.nii.gz", **more)


def zipped(target: Path, files: Mapping[str, bytes]) -> Path:
    """Write a zip file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in files.items():
            pack.writestr(name, content)
    return target
