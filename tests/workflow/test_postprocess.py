"""A finished run that is asked for with postprocessing=auto: decided on its masks, scored and predicted with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segment.commands import predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.inference.model import load_model
from segment.inference.postprocessing import LARGEST, Step
from segment.runs.completion import is_complete
from segment.runs.folder import read_run
from segment.runs.predictions import prediction_settings, predictions_record
from segment.runs.summary import read_summary, write_summary
from segment.workflow import train as workflow_train

KEPT = Step(LARGEST, "label_1")
DETECTION = {"score": "mean", "structures": {}}
WORDS = "label_1: largest component only"


def voxels(file) -> np.ndarray:
    return np.asarray(Image.open(file))


def predicted(model: Path, image: Path, output: Path, *more: str) -> tuple[np.ndarray, dict]:
    """The mask, and the content of predictions.json."""
    given = {"model": model, "input": image, "output": output, "overwrite": "true"}
    predict.run(compose("predict", [*(f"{key}={value}" for key, value in given.items()), *more]))
    return voxels(output / image.name), json.loads((output / "predictions.json").read_text())


@pytest.fixture
def ask(run_train, tested_folds, tmp_path, monkeypatch):
    """Function that asks for post-processing of finished folds, whose masks are the references and a corner each."""
    for name in ("cv", "cv-fold0", "cv-fold1"):
        shutil.copytree(tested_folds / name, tmp_path / "runs" / name)
    for fold in (0, 1):
        for folder, part in (("predictions", "train"), ("predictions/test", "test")):
            for file in (tmp_path / "runs" / f"cv-fold{fold}" / folder).glob("*.png"):
                mask = voxels(tested_folds / "data" / "labels" / part / file.name).copy()
                mask[-1, : 2 + int(file.stem)] = 1
                Image.fromarray(mask).save(file)
    monkeypatch.setattr(workflow_train, "prepare", None)

    def again(*overrides: str):
        given = [f"output={tmp_path / 'runs' / 'cv-fold0'}", "name=cv-fold0", "fold=0", "postprocessing=auto"]
        return run_train(tested_folds / "data", "cv", "plan.patch_size=[16,16]", "folds=2", *given, *overrides)

    return again


def test_masks_scores_page_and_model_are_those_with_what_is_kept(ask, tested_folds, tmp_path, capsys):
    file = tmp_path / "runs" / "cv-fold0" / "summary.json"
    write_summary(file, read_summary(file) | {"detection": DETECTION})
    ask()
    told = capsys.readouterr().out
    assert f"Post-processing: {WORDS}, decided on 2 validation scans" in told
    run = read_run(tmp_path / "runs" / "cv-fold0")
    assert (run.scans["dice"] == 1).all()
    assert set(run.scans["split"]) == {"val", "test"}
    assert (run.scans["postprocessed_voxels"] == run.scans["case"].astype(int) + 2).all()
    for protocol in (run.summary["protocol"], run.summary["test"]["protocol"]):
        assert protocol["postprocessing"] == f"{WORDS}, decided on 2 validation scans"
    record = run.summary["postprocessing"]
    assert record["steps"] == [{"kind": "largest", "label": "label_1", "size": None}]
    assert record["structures"][0]["kept"]
    assert record["difference"]["mean"] > 0
    assert "calibration" in run.summary
    assert run.summary["detection"] == DETECTION
    page = (run.path / "report.html").read_text()
    assert '<h2 id="postprocessing">' in page
    assert WORDS in page
    for part, folder in (("train", "predictions"), ("test", "predictions/test")):
        for file in (run.path / folder).glob("*.png"):
            np.testing.assert_array_equal(voxels(file), voxels(tested_folds / "data" / "labels" / part / file.name))
    raw = run.path / "predictions" / "unprocessed"
    assert [voxels(raw / "test" / f"{n}.png")[-1].sum() for n in range(3)] == [2, 3, 4]
    model = load_model(run.path)
    assert model.postprocessing == (KEPT,)

    stamp = (run.path / "scans.csv").stat().st_mtime_ns
    ask()  # decided already
    ask("postprocessing=none")
    assert (run.path / "scans.csv").stat().st_mtime_ns == stamp
    ask("+metrics.volume={_target_: volume_metric.Volume}")
    again = read_run(run.path)
    assert again.summary["postprocessing"] == record
    assert (again.scans["volume"] == 0).all()


@pytest.mark.usefixtures("without_pages")
def test_a_model_is_predicted_as_it_was_scored(ask, tested_folds, tmp_path, capsys):
    ask()
    image = tested_folds / "data" / "images" / "test" / "0.png"
    masks = {}
    for value in ("scored", "none"):
        model = tmp_path / "runs" / "cv-fold0"
        masks[value], record = predicted(model, image, tmp_path / value, f"postprocessing={value}")
        assert record["scored"]["postprocessing"] == WORDS
        assert record["predicted"]["postprocessing"] == (WORDS if value == "scored" else "none")
        carried = prediction_settings(predictions_record([tmp_path / value]))  # what evaluate says of the masks
        assert (carried["postprocessing"], carried["decision"]) == (record["predicted"]["postprocessing"], None)
    assert f"postprocessing is none here, {WORDS} for the model's scores" in capsys.readouterr().err
    expected = load_model(tmp_path / "runs" / "cv-fold0").predict(image).mask.T
    np.testing.assert_array_equal(masks["scored"], expected)


def _as_predicted(run: Path) -> list[Path]:
    folder = run / "predictions" / "unprocessed"
    return sorted((folder if folder.exists() else folder.parent).glob("*.png"))


@pytest.mark.usefixtures("without_pages")
def test_a_cross_validation_decides_on_all_folds_from_the_masks_as_they_were_predicted(
    ask, tested_folds, tmp_path, capsys
):
    ask()  # fold 0 has a decision of its own, which does not count here
    first = (tmp_path / "runs" / "cv-fold0" / "scans.csv").read_text()
    raw = [voxels(file) for fold in (0, 1) for file in _as_predicted(tmp_path / "runs" / f"cv-fold{fold}")]
    for file in (tmp_path / "runs" / "cv-fold0" / "predictions").glob("*.png"):
        Image.fromarray(np.zeros_like(voxels(file))).save(file)
    whole = [f"output={tmp_path / 'runs' / 'cv'}", "name=cv", "fold=all"]
    ask(*whole)
    assert (tmp_path / "runs" / "cv-fold0" / "scans.csv").read_text() == first
    run = read_run(tmp_path / "runs" / "cv")
    assert run.summary["postprocessing"]["scans"] == len(raw) == 4
    wrong, right = (np.array([mask[rows].sum() for mask in raw]) for rows in (slice(-1, None), slice(-1)))
    gained = np.mean(1 - 2 * right / (2 * right + wrong))
    assert run.summary["postprocessing"]["difference"]["mean"] == pytest.approx(gained)
    assert run.summary["protocol"]["postprocessing"] == f"{WORDS}, decided on 4 validation scans"
    assert (run.scans["dice"] == 1).all()
    assert len(run.scans[run.scans["split"] == "test"]) == 6
    for file in (run.path / "predictions").glob("*.png"):
        np.testing.assert_array_equal(voxels(file), voxels(tested_folds / "data" / "labels" / "train" / file.name))
    assert load_model(tmp_path / "runs" / "cv-fold1").postprocessing == ()
    capsys.readouterr()
    ask(*whole)
    assert "is finished" in capsys.readouterr().out

    image = tested_folds / "data" / "images" / "test" / "0.png"
    mask, record = predicted(run.path, image, tmp_path / "masks")
    assert record["predicted"]["postprocessing"] == WORDS
    assert "postprocessing" not in str(record["notes"])
    handed = shutil.copytree(run.path / "model", tmp_path / "handed")
    shutil.rmtree(tmp_path / "runs")
    again, other = predicted(handed, image, tmp_path / "masks")
    np.testing.assert_array_equal(again, mask)
    assert [one["sha256"] for one in other["model"]] == [one["sha256"] for one in record["model"]]
    (handed / "postprocessing.json").write_text('{"steps": [{"kind": "largest", "label": "other"}]}')
    with pytest.raises(UserError, match=r"postprocessing\.json: postprocessing\[0\]\.label is no structure"):
        predicted(handed, image, tmp_path / "masks")
    (handed / "postprocessing.json").unlink()
    predicted(handed, image, tmp_path / "masks")
    assert "postprocessing differs between the models" in capsys.readouterr().err


def test_a_run_that_was_stopped_meanwhile_is_not_finished(ask, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("segment.workflow.postprocess.write_scans", stop)
    with pytest.raises(KeyboardInterrupt):
        ask()
    assert not is_complete(tmp_path / "runs" / "cv-fold0")


def test_postprocessing_needs_validation_scans_and_known_metrics(ask, tmp_path):
    with pytest.raises(UserError, match="postprocessing=auto: is decided on validation scans"):
        ask("overfit=1")
    with pytest.raises(UserError, match="was scored by hd95_mm, nsd too"):
        ask("metrics=[]")
    assert (tmp_path / "runs" / "cv-fold0" / "report.html").exists()
    assert not (tmp_path / "runs" / "cv-fold0" / "predictions" / "unprocessed").exists()
