"""Runs the server until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from segment.errors import Stopped, UserError
from segment.serving.access import read_tokens
from segment.serving.served import How

if TYPE_CHECKING:
    from fastapi import FastAPI

    from segment.serving.service import Service

GB = 1e9
LEFT = 5.0  # seconds between the last answer and the end of connections


@dataclass(frozen=True)
class Place:
    """Where and for whom a server answers; see conf/serve.yaml.

    Attributes:
        host: Address to listen on.
        port: Port; 0 for any that is free.
        auth: File of tokens.
        workers: Processes that predict.
        queue: Scans that may wait.
        timeout: Seconds for reading or predicting a scan, and for receiving it.
        stop_timeout: Seconds to finish scans after SIGTERM.
        keep: Seconds that answers of jobs are kept.
        max_upload: GB of a body; a zip file may unpack to ten times as many.
        folder: For uploads and jobs, which the next server with it goes on with; None: the system's folder of temporary
            files, and jobs end with the server.
        log: File of what was seen.
        log_more: What else it tells, see `segment.serving.details`.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    auth: Path | None = None
    workers: int = 1
    queue: int = 32
    timeout: float = 600
    stop_timeout: float = 60
    keep: float = 600
    max_upload: float = 2
    folder: Path | None = None
    log: Path | None = None
    log_more: Sequence[str] = ()


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UserError: When the address or port cannot be used.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, number)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()  # before the address is printed: whoever reads it can connect
    except OSError as error:
        raise UserError(f"host={host} port={port}: cannot be listened on ({error.strerror}). Give another.") from None
    return found


def serve(models: Mapping[str, str], how: How, place: Place) -> None:
    """Answer requests until SIGTERM or Ctrl-C, then finish what was begun.

    Args:
        models: Name to folder; see `segment.serving.served.named_models`.
        how: How they predict.
        place: Where and for whom.

    Raises:
        UserError: When a package is missing, the port is taken, or a model cannot be loaded.
    """
    try:
        import uvicorn  # noqa: F401

        from segment.serving.app import Rules, create_app
        from segment.serving.kept import lasting_folder
        from segment.serving.log import Log
        from segment.serving.service import Service
        from segment.serving.start import in_processes
    except ImportError as error:
        raise UserError(
            f"The package {error.name} is not installed. Install the extra serve: pip install -c constraints.txt "
            "'.[serve]'"
        ) from None
    tokens = read_tokens(place.auth)
    listening = bound(place.host, place.port)
    largest = int(place.max_upload * GB)
    start = in_processes(models, how, 10 * largest, place.log_more)
    with contextlib.ExitStack() as held:
        lasting = None if place.folder is None else held.enter_context(lasting_folder(place.folder))
        service = Service(start, models, place.workers, place.queue, place.timeout, place.keep, lasting=lasting)
        log = None if place.log is None else Log(place.log)
        app = create_app(service, Rules(tokens, largest), log)
        _say(listening, models, place, bool(tokens))
        _run(app, service, listening, place.stop_timeout)
    if service.unusable:
        raise UserError(service.unusable)


def _run(app: FastAPI, service: Service, listening: socket.socket, stop_timeout: float) -> None:
    """Answer requests until the process is stopped."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if not service.stopping:
                loop.call_soon_threadsafe(asyncio.ensure_future, service.drain(stop_timeout))
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(stop_timeout + LEFT),
        loop="asyncio",
    )
    server = Server(config)
    service.on_unusable = functools.partial(setattr, server, "should_exit", True)
    loop = asyncio.new_event_loop()
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(server.serve([listening]))
    except Stopped as stop:
        raise Stopped(stop.number, resumes=False) from None
    except KeyboardInterrupt:
        raise Stopped(signal.SIGINT, resumes=False) from None


def _say(listening: socket.socket, models: Mapping[str, str], place: Place, tokens: bool) -> None:
    """Print where the server listens, and what its operator should know."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"Serving {', '.join(models)} on http://{shown}:{port}; Ctrl-C stops it.", flush=True)
    if not tokens and host not in ("127.0.0.1", "::1"):
        print(f"Note: whoever reaches {shown}:{port} can send scans. Give auth=FILE with tokens.", file=sys.stderr)
