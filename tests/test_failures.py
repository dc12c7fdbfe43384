"""Failures of the system end with exit code 2 and one paragraph that names the file and what to do."""

import errno
import os
import resource
from pathlib import Path

import pytest
import torch
from forked import Forked, fork_segment

from segment import cli
from segment.failures import explain_failure

OLD = Path(__file__).parent / "fixtures" / "runs_of_november_2026"
RUN, SCANS = OLD / "seed0", OLD / "scans"
IMAGE = SCANS / "imagesTr" / "case_0.nii.gz"
TRAIN = ("train", "data=auto", f"data.root={SCANS}", "network=unet_small", "plan.patch_size=[8,16,16]",
         "trainer.max_steps=2", "sampler.steps_per_epoch=2")  # fmt: skip
VERBS = {
    "train": TRAIN,
    "check": ("check", "data=auto", f"data.root={SCANS}"),
    "plan": ("plan", "data=auto", f"data.root={SCANS}"),
    "predict": ("predict", f"model={RUN}", f"input={IMAGE}"),
    "evaluate": ("evaluate", f"predictions={RUN / 'predictions'}", f"references={RUN / 'predictions'}"),
    "compare": ("compare", f"runs=[{RUN},{OLD / 'seed1'}]"),
}


def said(process: Forked) -> str:
    """The paragraph of a command that failed for a reason that the user can mend."""
    assert process.wait() == 2, process.errors
    assert "Traceback" not in process.errors
    return process.errors.strip().splitlines()[-1]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "check"])
@pytest.mark.parametrize("place", ["a file/out", "x" * 300, "/proc/out"])
def test_output_that_cannot_be_written_is_named(tmp_path, verb, place):
    (tmp_path / "a file").write_text("")
    output = f"output={place}.yaml" if verb == "plan" else f"output={place}"
    message = said(fork_segment(*VERBS[verb], output, folder=tmp_path, output=tmp_path / "printed"))
    assert message.startswith("segment: ")
    assert place.partition("/")[0][:50] in message


@pytest.mark.parametrize("verb", ["train", "predict", "evaluate"])
def test_full_disk_leaves_nothing_half_written_and_the_command_goes_on(tmp_path, verb):
    words = [*VERBS[verb], f"output={tmp_path / 'out'}"] + [f"cache={tmp_path / 'cache'}"] * (verb == "train")

    def program() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))  # as a full disk: writing beyond it fails
        cli.sys.argv = ["segment", *words]
        cli.main()

    message = said(Forked(program, tmp_path, Path("/dev/shm") / f"printed-{os.getpid()}"))
    assert "File too large" in message or "No space" in message
    assert not list(tmp_path.rglob(".partial-*"))
    assert fork_segment(*words, folder=tmp_path, output=tmp_path / "printed").wait() == 0


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/scans.csv"), ["a/scans.csv: No space", "output="]),
        (OSError(errno.EROFS, "Read-only file system", "/mnt/x"), ["/mnt/x: Read-only", "write"]),
        (OSError(errno.EMFILE, "Too many open files"), ["Too many open files", "ulimit -n"]),
        (MemoryError("Unable to allocate 10.8 GiB for an array"), ["10.8 GiB", "plan.batch_size"]),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), ["CUDA out of memory", "batch_size"]),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), ["killed", "sampler.workers=0"]),
        (RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"), ["unexpected", "space"]),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: (28)"), ["shm", "sampler.workers=0"]),
    ],
)  # fmt: skip
def test_failure_is_explained(error, parts):
    for raised in (error, chained(error)):
        message = explain_failure(raised)
        assert all(part in message for part in parts), message


def chained(cause: Exception) -> Exception:
    try:
        raise ValueError("a library's own") from cause
    except ValueError as error:
        return error


def test_mistake_of_the_program_stays_one():
    assert explain_failure(RuntimeError("shapes differ")) is None
    assert explain_failure(OSError("without a number")) is None
    assert explain_failure(ValueError("out of memory")) is None
    mistake = KeyError("made while a missing file was handled")
    mistake.__context__ = FileNotFoundError(errno.ENOENT, "No such file or directory", "optional.json")
    assert explain_failure(mistake) is None
