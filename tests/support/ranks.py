"""Trainings of several processes, as torchrun starts them, in forks of this process."""

from __future__ import annotations

import faulthandler
import socket
import sys
from pathlib import Path

from forked import Forked

from segment import cli

LONGEST = 150  # seconds, then each process prints where it waits and ends


def train_with(processes: int, folder: Path, *words: str, environment: dict[str, str] | None = None) -> list[Forked]:
    """Start ``segment train WORDS`` once per process, and wait for all of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    several = ["+trainer.strategy=ddp", f"trainer.devices={processes}"] if processes > 1 else []

    def program() -> None:
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        sys.argv = ["segment", "train", *words, *several]
        cli.main()

    def told(rank: int) -> dict[str, str]:
        if processes == 1:
            return environment or {}
        return {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "GROUP_RANK": "0",
            "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "TORCHELASTIC_RUN_ID": "none", **(environment or {}),
        }  # fmt: skip

    name = next(word for word in words if word.startswith("output=")).rpartition("/")[2]
    started = [Forked(program, folder, folder / f"{name}-{rank}.out", told(rank)) for rank in range(processes)]
    for process in started:
        process.wait()
    return started
