"""A training that diverges ends with exit code 2, keeps its last finite checkpoints, and is no result anywhere."""

import json
from pathlib import Path

import pytest
import torch
from finished_runs import diverge
from safetensors.torch import load_file, save_file

from segment.errors import UserError
from segment.training.divergence import Diverged
from segment.training.modules import base
from segment.training.modules.base import TrainingModule

pytestmark = pytest.mark.usefixtures("without_pages")

SPOILT = "+callbacks.spoil={{_target_: stopping.{}}}"


def check_no_result(run: Path, step: int) -> dict:
    record = json.loads((run / "diverged.json").read_text())
    assert record["step"] == step
    assert not (run / "report.html").exists()
    assert not (run / "scans.csv").exists()
    assert not (run / "model").exists()
    for file in (run / "checkpoints").glob("*.ckpt"):
        state = torch.load(file, weights_only=True)
        assert all(torch.isfinite(value).all() for value in state["state_dict"].values())
        assert state["global_step"] < step
    return record


@pytest.mark.parametrize("rate", ["1e6", pytest.param("1e30", marks=pytest.mark.slow), "1e36"])
def test_far_too_high_learning_rate_ends_the_training(run_train, make_dataset, tmp_path, rate):
    root = make_dataset(tmp_path / "data", n=4)
    with pytest.raises(Diverged, match=r"diverged at step \d+ of 40: .*learning rate.*smaller optimizer\.lr"):
        run_train(root, "run", f"optimizer.lr={rate}", "trainer.max_steps=40", "sampler.steps_per_epoch=4")
    run = tmp_path / "runs" / "run"
    record = check_no_result(run, json.loads((run / "diverged.json").read_text())["step"])
    assert record["precision"] == "32-true"
    assert set(record["cases"]) <= {f"case_{'abcd'[number]}{number:02d}" for number in range(4)}


@pytest.mark.usefixtures("without_pages")
@pytest.mark.parametrize(
    ("spoilt", "callbacks", "late"),
    [
        ("NotFiniteAt", "default", True),
        ("GradientNotFiniteAt", "ema", False),
        pytest.param("NotFiniteAt", "ema", False, marks=pytest.mark.slow),
        pytest.param("GradientNotFiniteAt", "default", True, marks=pytest.mark.slow),
    ],
)
def test_non_finite_step_keeps_earlier_checkpoints(
    run_train, make_dataset, tmp_path, monkeypatch, spoilt, callbacks, late
):
    monkeypatch.setattr(TrainingModule, "judged_late", late)  # as on a GPU
    root = make_dataset(tmp_path / "data", n=4)
    given = (
        "trainer.max_steps=6", "trainer.precision=bf16-mixed", f"callbacks={callbacks}", SPOILT.format(spoilt)
    )  # fmt: skip
    whole = run_train(root, "whole", *given)
    monkeypatch.setenv("NAN_AT", "4")
    what = "its loss is nan" if spoilt == "NotFiniteAt" else r"the gradient of \S+ is not finite"
    if late and spoilt == "GradientNotFiniteAt":
        what = "the norm of the gradients"  # by then the gradients are those of the next step
    with pytest.raises(
        Diverged, match=rf"step 4 of 6: {what}.*precision bf16-mixed.*scans case_.*trainer\.precision=32-true"
    ):
        run_train(root, "run", *given)
    run = tmp_path / "runs" / "run"
    check_no_result(run, 4)
    assert (run / "checkpoints" / "last.ckpt").exists()
    # What spoilt it is gone: the same command goes on from the checkpoint, and the mark of its failure goes too.
    monkeypatch.delenv("NAN_AT")
    run_train(root, "run", *given)
    assert not (run / "diverged.json").exists()
    first, second = (load_file(folder / "model" / "weights.safetensors") for folder in (whole, run))
    assert all(torch.equal(first[name], second[name]) for name in first)


OVERFLOW = ("trainer.max_steps=2", SPOILT.format("OverflowAt"))


def test_fp16_skips_a_step_that_overflows(run_train, make_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("NAN_AT", "1")
    run = run_train(make_dataset(tmp_path / "data", n=4), "run", *OVERFLOW)
    scaler = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["MixedPrecision"]
    assert scaler["scale"] == 2**15  # halved once
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_fp16_gives_up_where_all_steps_overflow(run_train, make_dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("NAN_AT", "1")
    monkeypatch.setattr(base, "MOST_OVERFLOWS", 1)
    with pytest.raises(Diverged, match=r"step 1 of 2: .* 1 in a row whose gradients overflow in fp16"):
        run_train(make_dataset(tmp_path / "data", n=4), "run", *OVERFLOW)
    check_no_result(tmp_path / "runs" / "run", 1)


def test_non_finite_weights_after_a_step_end_the_training(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    given = (
        "optimizer.lr=1e30", "optimizer.weight_decay=1e9", "scheduler=constant", "sampler.steps_per_epoch=1",
        "trainer.max_steps=2",
    )  # fmt: skip
    with pytest.raises(Diverged, match=r"step 1 of 2: .* validation scan .* not finite"):
        run_train(root, "validated", *given)
    with pytest.raises(Diverged, match=r"step 1 of 2: the weights \S+ are not finite"):
        run_train(root, "saved", *given, "trainer.check_val_every_n_epoch=2")
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


@pytest.mark.parametrize("rate", ["1e39", "-1", "nan"])
def test_invalid_learning_rate_is_refused(run_train, make_dataset, tmp_path, rate):
    root = make_dataset(tmp_path / "data", n=4)
    with pytest.raises(UserError, match=r"optimizer"):
        run_train(root, "run", f"optimizer.lr={rate}", "scheduler=constant")


def test_the_command_ends_with_code_2_and_a_sweep_goes_on(segment, make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=4)
    steps = ("trainer.max_steps=20", "sampler.steps_per_epoch=2")
    assert segment("train", root, "name=x", "output=runs/x", "optimizer.lr=1e30", *steps) == 2
    assert "diverged at step" in capsys.readouterr().err
    assert segment("train", root, "-m", "optimizer.lr=1e30,1e-3", *steps) == 2
    output = capsys.readouterr()
    assert "1 of 2 jobs failed" in output.err
    assert next(line.split()[2] for line in output.out.splitlines() if line.startswith("0 ")) == "failed"


def spoil_checkpoint(run: Path) -> Path:
    file = run / "checkpoints" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    next(iter(content["state_dict"].values())).view(-1)[0] = float("nan")
    torch.save(content, file)
    return file


def test_non_finite_weights_are_refused_everywhere(run_train, make_dataset, tmp_path, monkeypatch):
    root = make_dataset(tmp_path / "data", n=4)
    stop = "+callbacks.stop={_target_: stopping.StopAt}"
    monkeypatch.setenv("STOP_AT", "2")
    run = run_train(root, "run", stop, "trainer.max_time=00:01:00:00")
    monkeypatch.delenv("STOP_AT")
    spoil_checkpoint(run)
    with pytest.raises(UserError, match=r"last\.ckpt: its weights are not finite"):
        run_train(root, "run", stop)
    file = run / "model" / "weights.safetensors"
    state = load_file(file)
    next(iter(state.values())).view(-1)[0] = float("inf")
    save_file(state, file)
    with pytest.raises(UserError, match=r"weights=.*not finite"):
        run_train(root, "other", f"weights={run}")


def test_older_diverged_run_is_refused(run_train, make_dataset, tmp_path):
    run = run_train(make_dataset(tmp_path / "data", n=4), "run")
    diverge(run, step=3)
    with pytest.raises(UserError, match=r"diverged at step 3.*Delete it"):
        run_train(tmp_path / "data", "run")
