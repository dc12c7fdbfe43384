"""Starts workers as processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Mapping
from multiprocessing.connection import Connection

from segment.serving.served import How
from segment.serving.service import Process, Start


def in_processes(models: Mapping[str, str], how: How, unpacked: int, more: Collection[str] = ()) -> Start:
    """A function that starts a worker; see `segment.serving.worker.main` for the arguments."""
    context = multiprocessing.get_context("spawn")  # the server's threads would not survive a fork

    def start() -> tuple[Connection, Process]:
        from segment.serving.worker import main

        ours, theirs = context.Pipe()
        process = context.Process(target=main, args=(theirs, dict(models), how, unpacked, tuple(more)), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    return start
