"""SIGKILL, SIGTERM and SIGINT at random moments and in each phase of every verb: the same results, nothing left over.

One hundred SIGKILLs in all, and each of the other signals in each phase. Three kills and five signals of a training are
in the fast tests: `tests/workflow/test_kill.py` and `test_signals.py`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked, fork_segment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

TRAIN = (
    "train", "data=auto", "network=unet_small", "network.encoder.features=[4,8]", "network.encoder.stage.dropout=0.1",
    "trainer.max_steps=8", "sampler.steps_per_epoch=4", "trainer.check_val_every_n_epoch=1", "plan.batch_size=1",
    "plan.patch_size=[8,16,16]", "inference.mirror=[]", "name=x",
)  # fmt: skip
VARIANTS = {
    "accumulated": ("trainer.precision=32-true", "trainer.accumulate_grad_batches=2"),
    "ema": ("trainer.precision=32-true", "callbacks=ema"),
    "bf16": ("trainer.precision=bf16-mixed",),
    "workers": ("trainer.precision=32-true", "sampler.workers=2"),
}
# What there is to see as soon as a phase has begun, in the folder of a command and of its cache.
PHASES = {
    "prepare": "cache/**/.partial-*",
    "train": "out/checkpoints/last.ckpt",
    "checkpoint": "out/checkpoints/.partial-*",
    "score": "out/predictions/*",
    "report": "out/summary.json",
}
TIMES = ("cost", "wall_seconds", "train_seconds", "seconds_per_step", "time", "started", "finished", "seconds")


class Work:
    """One command with a folder of its own, which may be started again and again."""

    def __init__(self, folder: Path, words: tuple[str, ...], cached: bool = False):
        folder.mkdir()
        self.folder, self.out, self.starts = folder, folder / "out", 0
        self.words = (*words, f"output={self.out}", *([f"cache={folder / 'cache'}"] if cached else []))

    def start(self) -> Forked:
        """Start it in a process."""
        self.starts += 1
        return fork_segment(*self.words, folder=self.folder, output=self.folder / f"printed{self.starts}")

    def finish(self) -> float:
        """Let it end; returns its seconds."""
        start, process = time.monotonic(), self.start()
        assert process.wait() == 0, process.errors[-3000:]
        return time.monotonic() - start

    def results(self) -> dict[str, Any]:
        """Everything that it wrote, by file, without times and paths that differ from run to run."""
        found: dict[str, Any] = {}
        for file in sorted(path for path in self.out.rglob("*") if path.is_file()):
            name = str(file.relative_to(self.out))
            if name.startswith("tensorboard/") or name in ("provenance.json", "report.html"):
                found.setdefault(name.partition("/")[0], "is there")
            elif file.suffix == ".ckpt":
                content = torch.load(file, weights_only=True)
                found[name] = repr_of([content["state_dict"], content["optimizer_states"], content["lr_schedulers"]])
            elif file.suffix == ".json":
                found[name] = without_times(json.loads(file.read_text().replace(str(self.folder), "")))
            else:
                found[name] = file.read_bytes().replace(str(self.folder).encode(), b"")
        return found


def repr_of(content: Any) -> Any:
    """Nested values with the bytes of tensors in their place."""
    if isinstance(content, torch.Tensor):
        return (
            str(content.dtype),
            content.shape,
            content.detach().reshape(-1).clone().view(torch.uint8).numpy().tobytes(),
        )
    if isinstance(content, dict):
        return {key: repr_of(value) for key, value in content.items()}
    return [repr_of(value) for value in content] if isinstance(content, list | tuple) else content


def without_times(content: Any) -> Any:
    """JSON without what a clock decides."""
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in TIMES}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def end_when(process: Forked, moment: Callable[[], bool], number: int) -> bool:
    """Send the signal, to all its processes if it is SIGKILL, as soon as ``moment()``; False if it had ended before."""
    deadline = time.monotonic() + 200
    while not moment():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.001)
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.kill(process.pid, number)
        process.wait()
    return True


def after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def seen(folder: Path, pattern: str) -> Callable[[], bool]:
    return lambda: next(folder.glob(pattern), None) is not None


def is_handled(process: Forked, number: int) -> bool:
    """Whether the command has begun and installed its handler of a signal."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    handled = int(next(line for line in lines if line.startswith("SigCgt")).split()[1], 16)
    return bool(handled >> (number - 1) & 1) and bool(handled >> (signal.SIGTERM - 1) & 1)


def killed(work: Work, length: float, kills: int, seed: str, phases: tuple[str, ...] = ()) -> int:
    """Kill a command in each phase and at random moments, let it end, and count the kills."""
    moments, done = random.Random(seed), 0
    for phase in phases:
        done += end_when(work.start(), seen(work.folder, PHASES[phase]), signal.SIGKILL)
        if phase in ("prepare", "report"):
            shutil.rmtree(work.folder / "cache" if phase == "prepare" else work.out, ignore_errors=True)
    while done < kills:
        if not end_when(work.start(), after(moments.uniform(0.05, length)), signal.SIGKILL):
            shutil.rmtree(work.out)  # it ended first: from the start again
        else:
            done += 1
    work.finish()
    left = [path for path in work.folder.rglob("*") if path.name.startswith(".partial-") or path.name == ".lock"]
    assert left == []
    return done


@pytest.fixture(scope="module")
def root(make_dataset, tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("kills") / "data", n=4)


@pytest.fixture(scope="module")
def run(root) -> Path:
    """A finished run for the verbs that need one."""
    work = Work(root.parent / "run", (*TRAIN, *VARIANTS["workers"], f"data.root={root}"), cached=True)
    work.finish()
    return work.out


@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_trainings_end_with_the_same_results(root, tmp_path, variant):
    words = (*TRAIN, *VARIANTS[variant], f"data.root={root}")
    whole, broken = (Work(tmp_path / name, words, cached=True) for name in ("whole", "broken"))
    length = whole.finish()
    assert killed(broken, length, 19, variant, tuple(PHASES)) == 19
    compare(whole, broken)


def compare(whole: Work, broken: Work) -> None:
    """All results are equal, and no file is missing or left over."""
    wanted, found = whole.results(), broken.results()
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def verbs(root: Path, run: Path) -> dict[str, tuple[str, ...]]:
    return {
        "predict": ("predict", f"model={run}", f"input={root / 'imagesTr'}"),
        "evaluate": ("evaluate", f"predictions={root / 'labelsTr'}", f"references={root / 'labelsTr'}"),
        "compare": ("compare", f"runs=[{run},{run.parent / 'copy'}]", "by=run"),
    }


def prepared(root: Path, run: Path, verb: str) -> tuple[str, ...]:
    if verb == "compare" and not (run.parent / "copy").exists():
        shutil.copytree(run, run.parent / "copy")
        rows = (run / "scans.csv").read_text().replace(",0.", ",0.1")
        (run.parent / "copy" / "scans.csv").write_text(rows)
    return verbs(root, run)[verb]


@pytest.mark.parametrize("verb", ["predict", "evaluate", "compare"])
def test_other_verbs_that_are_killed_end_with_the_same_results(root, run, tmp_path, verb):
    words = prepared(root, run, verb)
    whole, broken = (Work(tmp_path / name, words) for name in ("whole", "broken"))
    length = whole.finish()
    assert killed(broken, length, 8, verb) == 8
    compare(whole, broken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", [*PHASES, "predict", "evaluate", "compare"])
def test_signals_in_each_phase_are_obeyed(root, run, tmp_path, phase, number):
    if phase in PHASES:
        work = Work(tmp_path / "work", (*TRAIN, *VARIANTS["accumulated"], f"data.root={root}"), cached=True)
        moment = seen(work.folder, PHASES[phase])
    else:
        work, moment = Work(tmp_path / "work", prepared(root, run, phase)), lambda: is_handled(process, number)
    process = work.start()
    sent = end_when(process, moment, number)
    errors = process.errors
    assert "Traceback" not in errors
    if sent and process.code != 0:  # else it ended just then
        assert process.code == 128 + number, errors[-2000:]
        assert errors.strip().splitlines()[-1].endswith("The same command resumes from here.")
    work.finish()
    assert [path for path in work.folder.rglob("*") if path.name.startswith(".partial-") or path.name == ".lock"] == []
