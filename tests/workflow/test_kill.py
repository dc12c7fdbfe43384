"""A run killed with SIGKILL at any moment and started again ends with the same weights, bit for bit."""

import random
import time
from pathlib import Path

import pytest
import torch
from forked import Forked, fork_segment
from safetensors.torch import load_file

OVERRIDES = (
    "data=auto", "network.encoder.features=[4,8]", "network.encoder.stage.dropout=0.1", "trainer.max_steps=24",
    "sampler.steps_per_epoch=6", "trainer.check_val_every_n_epoch=2", "trainer.precision=32-true",
    "plan.patch_size=[8,16,16]", "inference.mirror=[]",
)  # fmt: skip


def start(root: Path, folder: Path, cache: Path, *overrides: str) -> Forked:
    given = [*OVERRIDES, f"data.root={root}", f"output={folder}", "name=x", f"cache={cache}", *overrides]
    return fork_segment("train", *given, folder=root, output=folder.parent / "output.txt")


def kill_when(process: Forked, moment) -> None:
    """SIGKILL the command and its workers as soon as ``moment()`` is true."""
    deadline = time.monotonic() + 120
    while not moment():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()


def test_killed_runs_resume_to_the_same_weights(make_dataset, tmp_path):
    root, cache = make_dataset(tmp_path / "data", n=4), tmp_path / "cache"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(root, whole, cache).wait() == 0
    last = killed / "checkpoints" / "last.ckpt"

    def seen(path: Path):
        return lambda: path.exists()

    def changes(path: Path, times: int):
        state = {"stamp": path.stat().st_mtime_ns if path.exists() else None, "left": times}

        def moment() -> bool:
            stamp = path.stat().st_mtime_ns if path.exists() else None
            if stamp != state["stamp"]:
                state["stamp"], state["left"] = stamp, state["left"] - 1
            return state["left"] <= 0

        return moment

    # Before the first checkpoint, between two, and while the scans are scored.
    kill_when(start(root, killed, cache), seen(killed / "config.yaml"))
    kill_when(start(root, killed, cache, "sampler.workers=2"), changes(last, 2))
    kill_when(start(root, killed, cache), seen(killed / "predictions"))
    assert not (killed / "report.html").exists()
    assert start(root, killed, cache).wait() == 0

    a, b = (load_file(run / "model" / "weights.safetensors") for run in (whole, killed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (whole / "scans.csv").read_text() == (killed / "scans.csv").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("accumulated", "precision", "callbacks"),
    [(2, "32-true", "default"), (3, "32-true", "ema"), (2, "bf16-mixed", "ema"), (3, "bf16-mixed", "default")],
)
def test_kills_at_random_moments_change_no_weight(make_dataset, tmp_path, accumulated, precision, callbacks):
    root, cache = make_dataset(tmp_path / "data", n=4), tmp_path / "cache"
    more = (
        f"trainer.accumulate_grad_batches={accumulated}", f"sampler.steps_per_epoch={4 * accumulated}",
        f"trainer.precision={precision}", f"callbacks={callbacks}", "trainer.max_steps=40", "plan.batch_size=1",
    )  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(root, whole, cache, *more)
    while not (whole / "config.yaml").exists():
        time.sleep(0.01)
    started = time.monotonic()
    assert process.wait() == 0
    length = time.monotonic() - started
    moments = random.Random(f"{accumulated}{precision}{callbacks}")
    for _ in range(5):
        process = start(root, killed, cache, *more)
        # What is left becomes shorter with each kill that came after a checkpoint.
        wait = moments.uniform(0, length)
        there = killed / "config.yaml"
        stamp = there.stat().st_mtime_ns if there.exists() else None
        while process.poll() is None and (not there.exists() or there.stat().st_mtime_ns == stamp):
            time.sleep(0.01)
        until = time.monotonic() + wait
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
    assert start(root, killed, cache, *more).wait() == 0
    a, b = (load_file(run / "model" / "weights.safetensors") for run in (whole, killed))
    assert [key for key in a if not torch.equal(a[key], b[key])] == []
    assert (whole / "scans.csv").read_text() == (killed / "scans.csv").read_text()
