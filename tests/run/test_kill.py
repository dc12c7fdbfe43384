"""A run killed with SIGKILL at any moment and started again ends with the same weights, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

OVERRIDES = (
    "data=auto", "network.encoder.features=[4,8]", "network.encoder.stage.dropout=0.1", "trainer.max_steps=60",
    "sampler.steps_per_epoch=10",
    "trainer.check_val_every_n_epoch=2", "trainer.precision=32-true", "plan.patch_size=[8,16,16]", "inference=plain",
)  # fmt: skip


def start(root: Path, folder: Path, cache: Path, *overrides: str) -> subprocess.Popen:
    given = [*OVERRIDES, f"data.root={root}", f"output={folder}", "name=x", f"cache={cache}", *overrides]
    return subprocess.Popen(
        [sys.executable, "-m", "segment.cli", "train", *given],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill_when(process: subprocess.Popen, moment) -> None:
    """SIGKILL the command and its workers as soon as ``moment()`` is true."""
    deadline = time.monotonic() + 120
    while not moment():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_runs_go_on_to_the_same_weights(make_dataset, tmp_path):
    root, cache = make_dataset(tmp_path / "data", n=4), tmp_path / "cache"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(root, whole, cache).wait(120) == 0
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

    # Before the first checkpoint, between two, right after a later one, and while the scans are scored.
    kill_when(start(root, killed, cache), seen(killed / "config.yaml"))
    kill_when(start(root, killed, cache, "sampler.workers=2"), changes(last, 2))
    kill_when(start(root, killed, cache, "sampler.workers=1"), changes(last, 1))
    kill_when(start(root, killed, cache), seen(killed / "predictions"))
    assert not (killed / "report.html").exists()
    assert start(root, killed, cache).wait(120) == 0

    a, b = (load_file(run / "model" / "weights.safetensors") for run in (whole, killed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (whole / "scans.csv").read_text() == (killed / "scans.csv").read_text()
