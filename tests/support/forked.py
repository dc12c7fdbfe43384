"""Programs in a fork of this process, which has imported torch, MONAI and Lightning; importing them takes seconds."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import monai.networks.nets  # noqa: F401
import torch

import segment.workflow.train  # noqa: F401
from segment import cli


class Forked:
    """A program in a process group of its own; what it prints goes to ``output``, its errors to ``output``.err."""

    def __init__(
        self, program: Callable[[], object], folder: Path, output: Path, environment: Mapping[str, str] | None = None
    ):
        self.code: int | None = None
        self.output = output
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run(program, folder, output, environment or {})
        os.setpgid(self.pid, self.pid)

    @property
    def printed(self) -> str:
        """What it wrote to standard output."""
        return self.output.read_text()

    @property
    def errors(self) -> str:
        """What it wrote to standard error."""
        return _errors(self.output).read_text()

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self) -> int:
        """Exit code, once it has ended."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def kill(self) -> None:
        """SIGKILL it and its workers."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()


def fork_segment(*words: str, folder: Path, output: Path, environment: Mapping[str, str] | None = None) -> Forked:
    """Start ``segment WORDS`` in ``folder``."""

    def program() -> None:
        sys.argv = ["segment", *words]
        cli.main()

    return Forked(program, folder, output, environment)


def _errors(output: Path) -> Path:
    return output.with_name(f"{output.name}.err")


def _run(program: Callable[[], object], folder: Path, output: Path, environment: Mapping[str, str]) -> None:
    """The child's whole life."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number, file in ((1, output), (2, _errors(output))):
            with file.open("w") as stream:
                os.dup2(stream.fileno(), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.chdir(folder)
        os.environ.update(environment)
        tempfile.tempdir = None
        torch.set_num_threads(1)  # the threads of the parent do not live on in its fork
        program()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
