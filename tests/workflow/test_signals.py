"""Ctrl-C and SIGTERM: saved, an exit code that says so, and the same command ends as if nothing had happened."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from forked import Forked, fork_segment
from safetensors.torch import load_file

OVERRIDES = (
    "data=auto", "network=unet_small", "network.encoder.features=[4,8]", "trainer.max_steps=24",
    "sampler.steps_per_epoch=8", "trainer.check_val_every_n_epoch=1", "trainer.precision=32-true",
    "plan.patch_size=[8,16,16]", "inference.mirror=[]", "name=x", "+callbacks.disturb={_target_: stopping.Signal}",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _short(without_pages) -> None:
    """Forks inherit that pages are left out."""


def start(root: Path, folder: Path, *overrides: str, **environment: str) -> Forked:
    given = [*OVERRIDES, f"data.root={root}", f"output={folder}", f"cache={root.parent / 'cache'}", *overrides]
    output = folder.parent / f"{folder.name}-{len(list(folder.parent.iterdir()))}.txt"
    return fork_segment("train", *given, folder=root, output=output, environment=environment)


@pytest.fixture(scope="module")
def whole(make_dataset, tmp_path_factory) -> Path:
    """A run that nothing disturbs, beside its data."""
    folder = tmp_path_factory.mktemp("signals")
    assert start(make_dataset(folder / "data", n=4), folder / "whole").wait() == 0
    return folder / "whole"


@pytest.mark.parametrize(
    ("number", "code", "more", "environment", "step"),
    [
        (signal.SIGTERM, 143, [], {}, 11),
        (signal.SIGINT, 130, ["sampler.workers=2"], {}, 11),
        (signal.SIGTERM, 143, [], {"SIGNAL_IN": "validation"}, 16),
    ],
    ids=["terminated", "interrupted", "in-validation"],
)
def test_training_is_saved_and_resumes_bit_for_bit(whole, tmp_path, number, code, more, environment, step):
    root, stopped = whole.parent / "data", tmp_path / "stopped"
    ended = start(root, stopped, *more, SIGNALS=str(int(number)), SIGNAL_AT="11", **environment)
    assert ended.wait() == code
    assert "Traceback" not in ended.errors
    saved, advice = ended.errors.strip().splitlines()[-2:]
    assert f"Saved step {step} of 24 in {stopped}" in saved
    assert advice.endswith("The same command resumes from here.")
    assert torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == step
    assert not (stopped / "report.html").exists()
    assert not (stopped / ".lock").exists()
    assert start(root, stopped, *more).wait() == 0
    a, b = (load_file(run / "model" / "weights.safetensors") for run in (stopped, whole))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (stopped / "scans.csv").read_text() == (whole / "scans.csv").read_text()


def test_second_signal_and_signals_outside_the_training_end_at_once(whole, tmp_path):
    root = whole.parent / "data"
    twice = start(root, tmp_path / "twice", SIGNALS="15 15", SIGNAL_AT="3")
    assert twice.wait() == 143
    assert "Traceback" not in twice.errors
    assert not (tmp_path / "twice" / "checkpoints" / "last.ckpt").exists()

    scoring = start(root, tmp_path / "scoring", "trainer.max_steps=8")
    deadline = time.monotonic() + 60
    while not (tmp_path / "scoring" / "model").exists() and scoring.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(scoring.pid, signal.SIGTERM)
    assert scoring.wait() == 143
    assert "Traceback" not in scoring.errors
    assert "stopped by SIGTERM. The same command resumes from here." in scoring.errors


def test_two_commands_never_use_one_run_folder(whole, tmp_path):
    root, folder = whole.parent / "data", tmp_path / "run"
    first = start(root, folder, "trainer.max_steps=400")
    deadline = time.monotonic() + 60
    while not (folder / "config.yaml").exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    second = start(root, folder, "trainer.max_steps=400")
    assert second.wait() == 2
    assert f"another run is using this folder (process {first.pid} on " in second.errors
    first.kill()  # releases the folder without any chance to tidy up
    assert start(root, folder, "trainer.max_steps=400", "trainer.max_time=00:00:00:01").wait() == 0
    assert not (folder / ".lock").exists()
