"""Runs that are calibrated on their validation scans: while they are trained, and afterwards."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segment.commands import predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.inference.model import load_model
from segment.runs.folder import read_run
from segment.workflow import train as workflow_train


def predicted(model, images, output, *more: str) -> dict:
    """Content of predictions.json."""
    predict.run(compose("predict", [f"model={model}", f"input={images}", f"output={output}", *more]))
    return json.loads((output / "predictions.json").read_text())


def voxels(file) -> np.ndarray:
    return np.asarray(Image.open(file))


@pytest.fixture
def calibrated(run_train, tested_folds, tmp_path):
    """Function that asks for calibration of a finished fold, or with other overrides trains one."""
    shutil.copytree(tested_folds / "cv-fold0", tmp_path / "runs" / "cv-fold0")

    def again(name: str, *overrides: str):
        given = ["plan.patch_size=[16,16]", "folds=2", "fold=0", "calibration=auto"]
        return run_train(tested_folds / "data", name, *given, *overrides)

    return again


def test_finished_run_is_calibrated_without_training_and_predicts_as_it_was_scored(
    calibrated, tested_folds, tmp_path, monkeypatch, capsys
):
    before = read_run(tmp_path / "runs" / "cv-fold0")
    monkeypatch.setattr(workflow_train, "fit", None)
    run = read_run(calibrated("cv-fold0"))
    assert "calibrated on 2 validation scans: temperature" in capsys.readouterr().out
    pd.testing.assert_frame_equal(run.scans, before.scans)  # the most probable labels stay
    assert run.summary["cost"] == before.summary["cost"]
    found = run.summary["reliability"]
    assert found["nll"] < found["nll_before"]
    assert found["temperature"] != 1
    assert run.summary["protocol"]["temperature"] == f"{found['temperature']:.3f}"
    assert run.summary["calibration"] != before.summary["calibration"]
    expected = pd.read_csv(run.path / "expected_dice.csv")
    np.testing.assert_allclose(expected["dice"], run.scans.query("split == 'val'")["dice"], atol=1e-5)
    own = found["expected_dice"]["label_1"]
    assert own["n"] == 2
    assert own["mean_error"] == pytest.approx((expected["expected_dice"] - expected["dice"]).mean(), abs=1e-5)
    assert '<h2 id="reliability">' in (run.path / "report.html").read_text()

    model = load_model(run.path)
    assert model.inference["temperature"] == found["temperature"]
    images = tmp_path / "images"
    images.mkdir()
    for case in expected["case"]:
        shutil.copy(tested_folds / "data" / "images" / "train" / f"{case}.png", images)
    maps = ["uncertainty=true", "probabilities=true", "conformal=0.5"]
    record = predicted(run.path, images, tmp_path / "masks", *maps)
    assert record["notes"] == []
    threshold = record["conformal"]["thresholds"]["label_1"]
    missed = []
    for case, told in zip(expected["case"], expected["expected_dice"], strict=True):
        np.testing.assert_array_equal(
            voxels(tmp_path / "masks" / f"{case}.png"), voxels(run.path / "predictions" / f"{case}.png")
        )
        assert record["scans"][f"{case}.png"]["expected_dice"]["label_1"] == pytest.approx(told, abs=2e-3)
        inside = nib.load(tmp_path / "masks" / "conformal" / f"{case}.nii.gz").get_fdata()[:, :, 0, 0].T > 0.5
        probable = nib.load(tmp_path / "masks" / "probabilities" / f"{case}.nii.gz").get_fdata()[:, :, 0, 1].T
        np.testing.assert_array_equal(inside, probable >= threshold - 1e-4)
        missed.append(1 - inside[voxels(tested_folds / "data" / "labels" / "train" / f"{case}.png") == 1].mean())
    assert (2 * np.mean(missed) + 1) / 3 <= 0.5
    with pytest.raises(
        UserError, match=r"conformal=0.1: 2 validation scans with label_1 can promise no risk below 0.334"
    ):
        predicted(run.path, images, tmp_path / "more", "conformal=0.1")
    with pytest.raises(UserError, match="needs calibration=auto"):
        calibrated("other", "calibration=none", "inference.decision=thresholds")


@pytest.mark.usefixtures("without_pages")
def test_scores_masks_and_predictions_are_those_of_the_thresholds(calibrated, tested_folds, tmp_path, capsys):
    run = read_run(calibrated("cut", "inference.decision=thresholds", "name=cut"))
    found = run.summary["reliability"]
    threshold = found["thresholds"]["label_1"]
    assert run.summary["protocol"]["decision"] == f"thresholds label_1 {threshold:.3f}"
    difference = found["decision"]
    argmax = read_run(tmp_path / "runs" / "cv-fold0").scans.query("split == 'val'")["dice"]
    own = run.scans.query("split == 'val'")["dice"]
    assert difference["mean"] == pytest.approx((own.to_numpy() - argmax.to_numpy()).mean())
    assert difference["mean"] >= 0  # a single label: the threshold of the highest mean Dice
    assert "decision thresholds beside the most probable labels: foreground Dice" in capsys.readouterr().out
    images = tested_folds / "data" / "images" / "test"
    record = predicted(run.path, images, tmp_path / "masks")
    assert record["notes"] == []
    for file in images.iterdir():
        np.testing.assert_array_equal(
            voxels(tmp_path / "masks" / file.name), voxels(run.path / "predictions" / "test" / file.name)
        )
    plain = predicted(run.path, images, tmp_path / "plain", "inference.decision=argmax")
    assert any("decision is argmax here, thresholds" in note for note in plain["notes"])
    with pytest.raises(UserError, match="the model has no thresholds"):
        predicted(tmp_path / "runs" / "cv-fold0", images, tmp_path / "none", "inference.decision=thresholds")
