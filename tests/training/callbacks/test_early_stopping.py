"""Early stopping and the plateau schedule: an early end is a finished run, and interruptions change nothing."""

import json

import pytest
import torch
from safetensors.torch import load_file

from segment.errors import UserError
from segment.runs.curves import read_curves

GIVEN = (
    "callbacks=early_stopping", "callbacks.early_stopping.min_delta=1", "callbacks.early_stopping.patience=2",
    "scheduler=plateau", "scheduler.threshold=1e6", "scheduler.patience=0", "sampler.steps_per_epoch=2",
    "trainer.max_steps=20", "trainer.check_val_every_n_epoch=2", "plan.batch_size=1", "optimizer.lr=0.01",
    "+callbacks.stop={_target_: stopping.StopAt}",
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("without_pages")


def weights(run) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "weights.safetensors")


@pytest.mark.slow
def test_early_stopping_ends_at_the_same_step_after_resuming(run_train, make_dataset, tmp_path, monkeypatch, capsys):
    root = make_dataset(tmp_path / "data", layout="folders", n=3, shape=(20, 20), labels=1)
    flat = ("plan.patch_size=[16,16]", *GIVEN)
    whole = run_train(root, "whole", *flat)
    # One validation improves on nothing, and two more do not improve on that.
    early = "at step 12 of 20, val/foreground_dice did not improve in 2 validations"
    assert json.loads((whole / "provenance.json").read_text())["stopped_early"] == early
    assert json.loads((whole / "summary.json").read_text())["protocol"]["stopped_early"] == early
    assert f"stopped early {early}" in capsys.readouterr().out
    rates = read_curves(whole / "tensorboard", ["lr"])["lr"].tolist()
    assert rates == pytest.approx([0.01] * 8 + [0.005] * 4)

    run_train(root, "whole", *flat)
    assert f"is finished: training stopped early {early}" in capsys.readouterr().out

    # Stopped within an epoch: the validation that follows a stop does not count.
    monkeypatch.setenv("STOP_AT", "7")
    part = run_train(root, "part", *flat, "trainer.max_time=00:01:00:00")
    record = json.loads((part / "provenance.json").read_text())
    assert (record["steps"], record["stopped_early"]) == (7, None)
    monkeypatch.delenv("STOP_AT")
    run_train(root, "part", *flat, "trainer.max_time=00:02:00:00")
    assert json.loads((part / "provenance.json").read_text())["stopped_early"] == early
    first, second = weights(whole), weights(part)
    assert all(torch.equal(first[name], second[name]) for name in first)

    # Killed before it was scored: it is scored, and not trained on.
    (part / "report.html").unlink()
    run_train(root, "part", *flat)
    assert json.loads((part / "provenance.json").read_text())["steps"] == 12
    assert all(torch.equal(first[name], value) for name, value in weights(part).items())


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("callbacks=early_stopping callbacks.early_stopping.monitor=val/dice", r"callbacks\.early_stopping\.monitor="),
        ("scheduler=plateau scheduler.monitor=val/foreground_dise", r"monitor=.*Did you mean 'val/foreground_dice'"),
        ("scheduler=plateau scheduler.mode=up", "scheduler: mode=up"),
    ],
)
def test_monitoring_a_score_that_is_not_logged_is_refused(run_train, make_dataset, tmp_path, choice, message):
    root = make_dataset(tmp_path / "data", layout="folders", n=2, shape=(20, 20), labels=1)
    with pytest.raises(UserError, match=message):
        run_train(root, "run", "plan.patch_size=[16,16]", *choice.split())
