"""Random changes of every format and description: a right reading or a UserError, nothing run, nothing read outside.

Each kind is read in a fork of its own, which notes what Python is asked to do (audit events), the memory it takes
beyond what it had, and readings that take too long.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from fuzzed import Subject, mutated, subjects

from segment.errors import UserError
from segment.failures import explain_failure

MOST_MB = 400  # beyond what a process had before: 268 MB are granted without a look at the system
MOST_SECONDS = 20.0
HIDDEN = b"\xa5\x5a\xc3\x3c" * 16
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen", "pty.spawn",
        "socket.connect", "pickle.find_class", "webbrowser.open", "os.remove.outside")  # fmt: skip
ALLOWED = (
    "/proc/",
    "/sys/",
    "/dev/",
    "/etc/localtime",
    "/etc/mime.types",
    "/usr/",
    "/lib",
    "/etc/nsswitch",
    "/etc/passwd",
)
HEAVY = ("page",)


class Watched:
    """Notes of one process: what failed, what ran, what was opened outside, the slowest reading."""

    def __init__(self, folder: Path):
        self.inside = (str(folder), sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), *ALLOWED)
        self.failed: list[str] = []
        self.ran: list[str] = []
        self.outside: list[str] = []
        self.read = self.refused = 0
        self.slowest = 0.0
        self.active = False

    def hear(self, event: str, arguments: tuple) -> None:
        """An audit hook."""
        if not self.active:
            return
        if event in RUNS and event != "pickle.find_class":
            self.ran.append(f"{event} {arguments!r}"[:300])
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - a hook must not open files itself
            if not path.startswith(self.inside):
                self.outside.append(path)


def peak_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(subject: Subject, folder: Path, seeds: range, secret: Path) -> dict[str, object]:
    """Change and read one kind of file as often as there are seeds; runs in a process of its own."""
    warnings.simplefilter("ignore")
    path = subject.make(folder)
    content = path.read_bytes()
    for reader in subject.read:  # also imports what it needs
        with suppress(UserError):  # a JPEG is no mask
            reader(path)
    watched, before = Watched(folder), peak_mb()
    sys.addaudithook(watched.hear)
    signal.signal(signal.SIGALRM, _too_slow)
    for seed in seeds:
        (folder.parent / "seed").write_text(str(seed))
        path.write_bytes(mutated(content, subject.changes, random.Random(f"{path.name}{seed}"), secret))
        for reader in subject.read:
            read_once(watched, reader, path, seed)
    return vars(watched) | {"inside": None, "grown": peak_mb() - before}


def read_once(watched: Watched, reader, path: Path, seed: int) -> None:
    """One reading: its outcome is noted."""
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    watched.active = True
    try:
        found = reader(path)
        array = getattr(found, "array", found)
        if isinstance(array, np.ndarray) and HIDDEN[:16] in array.astype(array.dtype).tobytes() + _as_bytes(array):
            watched.outside.append("the voxels of another file")
        watched.read += 1
    except BaseException as error:
        watched.refused += 1
        message = str(error) if isinstance(error, UserError) else explain_failure(error)
        if message is None:
            watched.failed.append(f"seed {seed}: {traceback.format_exc()[-1500:]}")
    finally:
        watched.active = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def _as_bytes(array: np.ndarray) -> bytes:
    """The voxels as the bytes that another file would have held."""
    return np.nan_to_num(array.astype(np.float64)).clip(0, 255).astype(np.uint8).tobytes()


def _too_slow(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {MOST_SECONDS} s")


def results(make_dataset, folder: Path, name: str, seeds: range) -> dict:
    """What a fork noted."""
    (folder / "work").mkdir(parents=True)
    secret = folder / "secret.raw"
    secret.write_bytes(HIDDEN * 100)
    subject = subjects(make_dataset)[name]

    def program() -> None:
        found = fuzz(subject, folder / "work", seeds, secret)
        (folder / "found.json").write_text(json.dumps(found))

    process = Forked(program, folder / "work", folder / "printed")
    if process.wait() != 0:  # by a signal, if a library in C crashed
        seed = (folder / "seed").read_text()
        raise AssertionError(f"{name}: ended by {process.code} in seed {seed}\n{process.errors[-3000:]}")
    return json.loads((folder / "found.json").read_text())


def judge(name: str, found: dict, count: int, readers: int) -> None:
    """Nothing may have failed, run, or been read outside."""
    assert found["failed"] == [], f"{name}: {len(found['failed'])} failures\n" + "\n".join(found["failed"][:5])
    assert (found["ran"], found["outside"]) == ([], []), name
    assert found["grown"] < MOST_MB, name
    assert found["read"] + found["refused"] == count * readers, name


NAMES = [*subjects(lambda *given, **more: Path())]


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(HEAVY)])
def test_changed_file_is_read_or_refused(make_dataset, tmp_path, name):
    count = 6
    judge(name, results(make_dataset, tmp_path, name, range(count)), count, len(subjects(make_dataset)[name].read))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_changed_files_are_read_or_refused(make_dataset, tmp_path, name):
    count = 20 if name.endswith(HEAVY) else 100  # 3,980 in all
    found = results(make_dataset, tmp_path, name, range(1000, 1000 + count))
    judge(name, found, count, len(subjects(make_dataset)[name].read))
