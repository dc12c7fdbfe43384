"""Whole runs in this process, small enough for every test."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segment import cli
from segment.commands import train
from segment.config.compose import compose_command
from segment.io.formats import registry

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


@pytest.fixture(scope="session")
def tested_folds(tmp_path_factory) -> Path:
    """A folder that tests share and do not change, of runs on flat images with official test images.

    ``data`` holds ``images`` and ``labels`` with ``train`` (4) and ``test`` (3, of the same names, brighter); ``cv``
    sums up the two folds ``cv-fold0`` and ``cv-fold1``.
    """
    shared = tmp_path_factory.mktemp("tested")
    for part, count, brightness in (("train", 4, 50), ("test", 3, 90)):
        for index in range(count):
            image, mask = (np.zeros((24, 20), np.uint8) for _ in range(2))
            mask[4 + index : 14, 5 : 12 + index] = 1
            image[:] = mask * brightness + np.random.default_rng(index).integers(0, 30, mask.shape)
            for kind, array in (("images", image), ("labels", mask)):
                (shared / "data" / kind / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(shared / "data" / kind / part / f"{index}.png")
    given = [f"data.root={shared / 'data'}", f"output={shared / 'cv'}", "name=cv", f"cache={shared / 'cache'}"]
    train.run(*compose_command("train", [*TINY, *given, "plan.patch_size=[16,16]", "folds=2", "fold=all"]))
    return shared


@pytest.fixture(scope="session")
def two_stages(tmp_path_factory, make_dataset) -> Path:
    """A folder that tests share and do not change: a cascade on scans larger than its patch.

    ``data`` holds 4 scans; ``low`` and ``high`` sum up the folds ``low-fold0``, ``low-fold1``, ``high-fold0`` and
    ``high-fold1`` of the first and the second stage; ``cache`` is theirs.
    """
    shared = tmp_path_factory.mktemp("stages")
    root = make_dataset(shared / "data", n=4, shape=(12, 20, 22), spacing=(1.5, 1.0, 1.0))
    with pytest.MonkeyPatch.context() as patched:
        _leave_pages_out(patched, "cross_validate", "score")
        train.run(*compose_command("train", stage_arguments(shared, root, "low", "plan.configuration=3d_lowres")))
        train.run(*compose_command("train", stage_arguments(shared, root, "high", f"cascade={shared / 'low'}")))
    return shared


def stage_arguments(folder: Path, root: Path, name: str, *overrides: str) -> list[str]:
    """The arguments of a stage of `two_stages` on the data at ``root``, its run ``name`` beside the others."""
    given = [f"data.root={root}", f"name={name}", f"output={folder / name}", f"cache={folder / 'cache'}"]
    small = ["trainer.max_steps=2", "plan.patch_size=[8,8,8]", "folds=2", "fold=all", "inference.overlap=0.25"]
    return [*TINY, *given, *small, *overrides]


@pytest.fixture
def formats_restored(monkeypatch) -> Iterator[None]:
    """Forget the image formats that this test registers."""
    monkeypatch.setattr(registry, "_formats", dict(registry._formats))
    monkeypatch.setattr(registry, "_versions", dict(registry._versions))
    monkeypatch.setenv(registry.VARIABLE, "")
    yield
    for module in ("raw3", "raw3_format"):
        sys.modules.pop(module, None)


def _leave_pages_out(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    page = "report.html"  # marks a run as finished
    for module in modules:
        monkeypatch.setattr(
            f"segment.workflow.{module}.write_page", lambda folder: (folder / page).write_text("left out")
        )
        monkeypatch.setattr(f"segment.workflow.{module}.write_board", lambda folder: None)


@pytest.fixture
def without_pages(monkeypatch) -> None:
    """Runs of this test draw neither page nor board, half the work of a tiny run: for tests of other things."""
    _leave_pages_out(monkeypatch, "cross_validate", "postprocess", "rescore", "score")


@pytest.fixture
def without_pages_of_folds(monkeypatch) -> None:
    """As `without_pages`, except for the run that sums up all folds."""
    _leave_pages_out(monkeypatch, "score")


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
