"""Training under a simulated Slurm: the variables of a job, and a `scontrol` that records what it is told."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from forked import Forked, fork_segment
from safetensors.torch import load_file

from segment.errors import UserError
from segment.slurm import requeue, stop_signals
from segment.workflow.train import fit

JOB = {"SLURM_JOB_ID": "47", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
       "SLURM_NODEID": "0"}  # fmt: skip
OVERRIDES = (
    "data=auto", "network=unet_small", "network.encoder.features=[4,8]", "trainer.max_steps=12",
    "sampler.steps_per_epoch=6", "trainer.check_val_every_n_epoch=1", "trainer.precision=32-true",
    "plan.patch_size=[8,16,16]", "inference.mirror=[]", "name=x", "+callbacks.disturb={_target_: stopping.Signal}",
)  # fmt: skip


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """The file that the simulated `scontrol` writes its arguments to."""
    told = tmp_path / "told.txt"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for key, value in JOB.items():
        monkeypatch.setenv(key, value)
    return told


def test_job_that_must_end_is_saved_requeued_and_goes_on(make_dataset, tmp_path, slurm, without_pages):
    root = make_dataset(tmp_path / "data", n=4)

    def start(name: str, *more: str, **environment: str) -> Forked:
        given = [*OVERRIDES, f"data.root={root}", f"output={tmp_path / name}", f"cache={tmp_path / 'cache'}", *more]
        return fork_segment("train", *given, folder=tmp_path, output=tmp_path / "printed", environment=environment)

    assert start("whole").wait() == 0
    # What a version that left this to Lightning, or another program, wrote where the command is started.
    foreign = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(foreign, tmp_path / "hpc_ckpt_3.ckpt")

    ended = start("stopped", "sampler.workers=1", SIGNALS=str(int(signal.SIGUSR1)), SIGNAL_AT="4")
    assert ended.wait() == 128 + signal.SIGUSR1, ended.errors
    saved, advice = ended.errors.strip().splitlines()[-2:]
    assert "Saved step 4 of 12 in" in saved
    assert advice.endswith("stopped by SIGUSR1. The same command resumes from here. Slurm runs job 47 again.")
    assert slurm.read_text() == "requeue 47\n"
    assert not list((tmp_path / "stopped").rglob("hpc_ckpt*"))

    assert start("stopped").wait() == 0
    a, b = (load_file(tmp_path / run / "model" / "weights.safetensors") for run in ("whole", "stopped"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert slurm.read_text() == "requeue 47\n"

    (tmp_path / "hpc_ckpt_3.ckpt").rename(tmp_path / "whole" / "hpc_ckpt_3.ckpt")
    with pytest.raises(UserError, match=r"hpc_ckpt_3\.ckpt: is not a checkpoint of this run\. Remove it\."):
        fit(None, None, None, tmp_path / "whole")


def test_signal_outside_the_training_requeues_too(make_dataset, tmp_path, slurm):
    root = make_dataset(tmp_path / "data", n=4)
    given = [*OVERRIDES, f"data.root={root}", f"output={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}"]
    process = fork_segment("train", *given, folder=tmp_path, output=tmp_path / "printed")
    while not (tmp_path / "run" / ".lock").exists() and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait() == 128 + signal.SIGUSR1
    assert "Slurm runs job 47 again." in process.errors
    assert slurm.read_text() == "requeue 47\n"


def test_one_process_of_an_array_s_job_requeues_its_own_task(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue() == "Slurm runs job 12_3 again."
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert requeue() == ""
    assert slurm.read_text() == "requeue 12_3\n"


def test_job_that_slurm_does_not_requeue_is_named(slurm, monkeypatch):
    (Path(os.environ["PATH"].partition(":")[0]) / "scontrol").write_text("#!/bin/sh\necho not allowed >&2; exit 1\n")
    assert requeue() == "Slurm did not requeue job 47 (not allowed). Submit it again."
    monkeypatch.setenv("PATH", "")
    assert "did not requeue job 47" in requeue()


def test_signal_of_slurm_is_left_alone_elsewhere(monkeypatch, slurm):
    assert signal.SIGUSR1 in stop_signals()
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")  # has a signal of its own
    assert signal.SIGUSR1 not in stop_signals()
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert signal.SIGUSR1 not in stop_signals()
