"""What a training needs disappears while it runs: it ends well, or with one paragraph and goes on once it is back."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import Forked, fork_segment
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
OVERRIDES = (
    "data=auto", "network=unet_small", "network.encoder.features=[4,8]", "trainer.max_steps=8",
    "sampler.steps_per_epoch=4", "trainer.check_val_every_n_epoch=1", "trainer.precision=32-true",
    "plan.patch_size=[8,16,16]", "inference.mirror=[]", "name=x", "+callbacks.disturb={_target_: faults.Fault}",
)  # fmt: skip


OLD = Path(__file__).parents[1] / "fixtures" / "runs_of_november_2026"
MASKS = OLD / "seed0" / "predictions"


def start(root: Path, folder: Path, **environment: str) -> Forked:
    given = [*OVERRIDES, f"data.root={root}", f"output={folder}", f"cache={folder.parent / 'cache'}"]
    return fork_segment(
        "train", *given, folder=folder.parent, output=folder.parent / "printed", environment=environment
    )


@pytest.mark.parametrize("fault", ["cache", "data", "clock"])
def test_training_survives_or_says_what_is_missing(make_dataset, tmp_path, without_pages, fault):
    root = make_dataset(tmp_path / "data", n=4)
    (tmp_path / "whole").mkdir()
    assert start(root, tmp_path / "whole" / "run").wait() == 0
    shutil.copytree(root, tmp_path / "kept")
    (tmp_path / "broken").mkdir()
    broken = tmp_path / "broken" / "run"
    places = {"cache": str(broken.parent / "cache"), "data": str(root), "clock": "clock"}
    process = start(root, broken, FAULT=places[fault])
    assert process.wait() in (0, 2), process.errors
    assert "Traceback" not in process.errors
    if process.code == 2:
        assert len(process.errors.strip().splitlines()[-1]) < 3000
        assert not (broken / "report.html").exists()
    if not root.exists():
        shutil.copytree(tmp_path / "kept", root)
    assert start(root, broken).wait() == 0
    a, b = (load_file(run / "model" / "weights.safetensors") for run in (tmp_path / "whole" / "run", broken))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (tmp_path / "whole" / "run" / "scans.csv").read_text() == (broken / "scans.csv").read_text()


SCANS = OLD / "scans" / "imagesTr"
CACHED = ("data.root={root}", "output={disk}/run", "cache={disk}/cache", "trainer.max_steps=2")
WORDS = {
    "train": ("train", *OVERRIDES[:-1], *CACHED),
    "pretrain": ("pretrain", *OVERRIDES[:3], *OVERRIDES[6:8], "method=mae", "name=x", *CACHED),
    "predict": ("predict", f"model={OLD / 'seed0'}", f"input={SCANS}", "output={disk}/masks"),
    "evaluate": ("evaluate", f"predictions={MASKS}", f"references={MASKS}", "output={disk}/scores"),
    "compare": ("compare", f"runs=[{OLD / 'seed0'},{OLD / 'seed1'}]", "output={disk}/comparison"),
    "convert": ("convert", f"input={SCANS}", "output={disk}/copies", "format=nrrd", "overwrite=true"),
    "export": ("export", f"model={OLD / 'seed0'}", f"input={SCANS}", "output={disk}/exported"),
}  # fmt: skip
KILOBYTES = {
    "train": (20, 60, 100, 140, 200, 250, 300), "pretrain": (20, 60, 120), "predict": (4, 12), "evaluate": (4, 12),
    "compare": (4, 12, 40), "convert": (4, 8), "export": (4, 20),
}  # fmt: skip


def mount(place: Path, options: str, again: bool = False) -> None:
    """A file system of its own at ``place``, seen by this process and its children only."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = 0x20 if again else 0  # MS_REMOUNT
    if options == "ro":
        flags, options = flags | 0x1, ""  # MS_RDONLY
    if libc.mount(b"disk", str(place).encode(), b"tmpfs", flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(place))


def on_a_disk(program: Callable[[Path], object], folder: Path) -> None:
    """Run ``program`` in a process with mounts of its own, or skip the test where that is not allowed."""
    disk = folder / "disk"
    disk.mkdir()

    def with_mounts() -> None:
        if ctypes.CDLL(None).unshare(0x00020000 | (0 if os.geteuid() == 0 else 0x10000000)):  # mounts, user
            sys.exit(77)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        program(disk)

    process = Forked(with_mounts, folder, folder / "child")
    if process.wait() == 77:
        pytest.skip("this machine allows no mounts")
    assert process.code == 0, process.errors[-3000:]


def refused(process: Forked, *parts: str) -> None:
    """The process has ended with one paragraph that names one of the parts."""
    assert process.wait() == 2, process.errors[-3000:]
    assert "Traceback" not in process.errors
    assert any(part in process.errors for part in parts), process.errors[-3000:]


@pytest.mark.parametrize(("verb", "size"), [(verb, size) for verb, sizes in KILOBYTES.items() for size in sizes])
def test_small_disk_is_told_and_the_command_goes_on_with_more_space(make_dataset, tmp_path, without_pages, verb, size):
    root = make_dataset(tmp_path / "data", n=4)

    def program(disk: Path) -> None:
        mount(disk, f"size={size}k")
        words = [word.format(root=root, disk=disk) for word in WORDS[verb]]
        refused(fork_segment(*words, folder=tmp_path, output=tmp_path / "printed"), "No space left")
        assert not list(disk.rglob(".partial-*"))
        mount(disk, "size=100m", again=True)
        more = fork_segment(*words, folder=tmp_path, output=tmp_path / "printed")
        assert more.wait() == 0, more.errors[-3000:]

    on_a_disk(program, tmp_path)


@pytest.mark.parametrize("verb", WORDS)
def test_read_only_disk_is_told(make_dataset, tmp_path, without_pages, verb):
    root = make_dataset(tmp_path / "data", n=4)

    def program(disk: Path) -> None:
        mount(disk, "ro")
        words = [word.format(root=root, disk=disk) for word in WORDS[verb]]
        refused(fork_segment(*words, folder=tmp_path, output=tmp_path / "printed"), "Read-only", "may not be written")

    on_a_disk(program, tmp_path)


def test_prepared_cache_on_a_read_only_disk_is_used(make_dataset, tmp_path, without_pages):
    root = make_dataset(tmp_path / "data", n=4)

    def program(disk: Path) -> None:
        mount(disk, "size=100m")
        words = [word.format(root=root, disk=disk) for word in WORDS["train"]]
        whole = [*words, f"output={tmp_path / 'run'}"]
        assert fork_segment(*words, folder=tmp_path, output=tmp_path / "printed").wait() == 0
        mount(disk, "ro", again=True)
        again = fork_segment(*whole, folder=tmp_path, output=tmp_path / "printed")
        assert again.wait() == 0, again.errors[-3000:]

    on_a_disk(program, tmp_path)
