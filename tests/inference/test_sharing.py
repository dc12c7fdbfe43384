"""Real processes that predict into one folder share its scans."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from PIL import Image
from saved_models import save

from segment import cli
from segment.io import masks
from segment.parallel import launch_time, local_rank

SCANS = 6
LONGEST = 60  # seconds until a process that should have ended has not


@pytest.fixture
def given(tmp_path) -> list[str]:
    """The words of a command without its output, on images of noise of which the last is damaged."""
    save(tmp_path / "model")
    (tmp_path / "scans").mkdir()
    for index in range(SCANS):
        noise = np.random.default_rng(index).integers(0, 200, (40, 30)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "scans" / f"{index}.png")
    (tmp_path / "scans" / "damaged.png").write_bytes(b"none")
    return [f"model={tmp_path / 'model'}", f"input={tmp_path / 'scans'}", "inference.mirror=[]"]


@pytest.fixture
def started(tmp_path) -> Iterator[Callable[..., Forked]]:
    """``started(NAME, WORDS)``: starts ``segment predict WORDS``; ended with the test at the latest."""
    processes: list[Forked] = []

    def start(name: str, *words: str, stuck: bool = False, **environment: str) -> Forked:
        processes.append(predicting(tmp_path, name, words, stuck, environment))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()


def predicting(folder: Path, name: str, words: Sequence[str], stuck: bool, environment: dict[str, str]) -> Forked:
    """``segment predict WORDS``, which notes its name and every mask that it writes; ``stuck`` at the first."""
    write = masks.write_mask

    def noted(path: Path, *others, **options) -> None:
        with (folder / "written").open("a") as file:
            file.write(f"{name} {path.name}\n")
        while stuck:
            time.sleep(0.1)
        time.sleep(0.1)
        write(path, *others, **options)

    def program() -> None:
        masks.write_mask = noted
        sys.argv = ["segment", "predict", *words]
        cli.main()

    return Forked(program, folder, folder / f"{name}.out", environment)


def ended(process: Forked) -> int:
    """Its exit code."""
    until = time.monotonic() + LONGEST
    while process.poll() is None:
        assert time.monotonic() < until, f"it has not ended: {process.errors}"
        time.sleep(0.02)
    return process.wait()


def written(folder: Path) -> dict[str, list[str]]:
    """Masks that each process began to write."""
    found: dict[str, list[str]] = {}
    for line in (folder / "written").read_text().splitlines():
        name, mask = line.split()
        found.setdefault(name, []).append(mask)
    return found


def content(output: Path) -> tuple[dict, dict]:
    """The masks, and what the record says of them but the time."""
    record = json.loads((output / "predictions.json").read_text())
    known = {name: {key: made[key] for key in ("images", "sha256")} for name, made in record["scans"].items()}
    assert all(path.name == "predictions.json" or path.suffix == ".png" for path in output.iterdir())
    return {path.name: path.read_bytes() for path in output.glob("*.png")}, known | record["failed"]


def test_two_processes_write_each_mask_once_and_what_one_would_write(given, started, tmp_path):
    launched = {"TORCHELASTIC_RUN_ID": "none"}
    alone = started("alone", *given, f"output={tmp_path / 'alone'}")
    pair = [started(name, *given, f"output={tmp_path / 'masks'}", LOCAL_RANK=name, **launched) for name in "01"]
    assert [ended(process) for process in (alone, *pair)] == [2, 2, 2]  # for the damaged one, which each names
    assert all("damaged.png" in process.errors for process in (alone, *pair))
    found = written(tmp_path)
    assert sorted(found["0"] + found["1"]) == sorted(found["alone"]) == [f"{index}.png" for index in range(SCANS)]
    assert content(tmp_path / "masks") == content(tmp_path / "alone")

    # One that starts when the others have ended has nothing to do; a command by hand would replace their masks.
    late = started("late", *given, f"output={tmp_path / 'masks'}", LOCAL_RANK="1", **launched)
    hand = started("hand", *given, f"output={tmp_path / 'masks'}")
    assert (ended(late), ended(hand)) == (2, 2)
    assert "1 of 7 scans could not be predicted" in late.errors
    assert "exist. Give another folder" in hand.errors
    assert {*written(tmp_path)} == {"0", "1", "alone"}


def test_scans_of_a_killed_process_are_taken_by_the_others(given, started, tmp_path):
    words = [*given, f"output={tmp_path / 'masks'}"]
    first = started("first", *words, stuck=True)
    while not (tmp_path / "written").exists():
        assert first.poll() is None, first.errors
        time.sleep(0.02)
    second = started("second", *words)
    until = time.monotonic() + LONGEST
    while len(written(tmp_path).get("second", [])) < SCANS - 3 and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.5)
    assert second.poll() is None  # it waits for the scans that the first one has
    taken = {*written(tmp_path)["second"]}
    assert "0.png" not in taken
    first.kill()
    assert ended(second) == 2
    assert sorted(written(tmp_path)["second"]) == [f"{index}.png" for index in range(SCANS)]
    assert {*content(tmp_path / "masks")[0]} > taken


def test_processes_that_are_started_together_are_told_by_their_environment(monkeypatch):
    assert local_rank() is None
    monkeypatch.setenv("SLURM_LOCALID", "0")  # of a batch script, which is no step of several
    assert local_rank() is None
    own = launch_time()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_LOCALID", "3")
    assert local_rank() == 3
    assert launch_time() <= own <= time.time()
