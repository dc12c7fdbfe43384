"""Whole runs in this process, small enough for every test."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segment import cli
from segment.commands import train
from segment.config.compose import compose_command

TINY = (
    "data=auto",
    "network=unet_small",
    "network.encoder.features=[4,8]",
    "trainer.max_steps=4",
    "sampler.steps_per_epoch=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.precision=32-true",
    "plan.patch_size=[8,16,16]",
    "inference.mirror=[]",
    "logger=tensorboard",
)


@pytest.fixture
def run_train(tmp_path) -> Callable[..., Path]:
    """``run_train(root, name, *overrides) -> run folder``: trains in this process on the data set at ``root``."""

    def run(root: Path, name: str, *overrides: str) -> Path:
        folder = tmp_path / "runs" / name
        given = [f"data.root={root}", f"name={name}", f"output={folder}", f"cache={tmp_path / 'cache'}"]
        train.run(*compose_command("train", [*TINY, *given, *overrides]))
        return folder

    return run


@pytest.fixture
def without_pages(monkeypatch) -> None:
    """Runs of this test draw neither page nor board, half the work of a tiny run: for tests of weights."""
    page = "report.html"  # marks a run as finished
    monkeypatch.setattr("segment.workflow.score.write_page", lambda folder: (folder / page).write_text("left out"))
    monkeypatch.setattr("segment.workflow.score.write_board", lambda folder: None)


@pytest.fixture
def segment(tmp_path, monkeypatch) -> Callable[..., int]:
    """``segment("train", root, *overrides) -> exit code``: the command on the data at ``root``, started in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")  # so that a row of a table is one line

    def command(verb: str, root: Path, *overrides: str) -> int:
        tiny = [*TINY, "trainer.max_steps=2", f"data.root={root}", f"cache={tmp_path / 'cache'}"]
        monkeypatch.setattr(sys, "argv", ["segment", verb, *sorted([*tiny, *overrides], key=lambda word: word != "-m")])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return command
