import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from safetensors.torch import save_file
from saved_models import edit, save

from segment.commands import predict
from segment.config.compose import compose
from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference import predictor
from segment.inference.ensemble import ensemble
from segment.inference.limits import model_folders
from segment.inference.model import load_model

SCAN = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)


@pytest.fixture
def folders(tmp_path):
    """Two models of one plan with other weights."""
    for name, scale in (("first", 1.0), ("second", -2.0)):
        save(tmp_path / name)
        state = load_model(tmp_path / name).network.state_dict()
        scaled = {key: value * scale for key, value in state.items()}
        save_file(scaled, tmp_path / name / "weights.safetensors")
    return [tmp_path / "first", tmp_path / "second"]


def test_an_ensemble_is_the_mean_of_its_models_and_prepares_a_scan_once(folders, monkeypatch):
    models = [load_model(folder) for folder in folders]
    alone = [model.predict(SCAN, np.eye(4), probabilities=True) for model in models]
    prepared = []
    original = predictor.prepare_image
    monkeypatch.setattr(predictor, "prepare_image", lambda *given: prepared.append(given) or original(*given))
    joined, notes = ensemble(models)
    together = joined.predict(SCAN, np.eye(4), probabilities=True)
    assert (len(prepared), notes) == (1, ())
    for name, found in together.probabilities.items():
        first, second = (one.probabilities[name] for one in alone)
        assert not np.allclose(first, second, atol=1e-3)
        np.testing.assert_allclose(found, (first + second) / 2, atol=1e-6)
    values = np.array(list(together.labels.values()))
    expected = values[np.stack(list(together.probabilities.values())).argmax(axis=0)]
    np.testing.assert_array_equal(joined.predict(SCAN, np.eye(4)).mask, expected)


def test_one_model_is_itself(folders):
    model = load_model(folders[0])
    assert ensemble([model]) == (model, ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": Labels({"background": 0, "head": 7, "tail": 4})}, "labels is "),
        ({"channels": ("mr",)}, r"channels is \('mr',\)"),
    ],
)
def test_models_that_cannot_be_averaged_are_refused(folders, changes, words):
    first, second = (load_model(folder) for folder in folders)
    with pytest.raises(UserError, match=f"second and .*first cannot be averaged: {words}"):
        ensemble([first, replace(second, **changes)])


def test_what_was_scored_differently_is_said(folders):
    edit(folders[1], inference={"overlap": 0.25, "mirror": "all", "batch_size": 1})
    _, notes = ensemble([load_model(folder) for folder in folders])
    assert notes == (f"{folders[1]} was scored with other overlap than {folders[0]}, used here.",)


def test_folders_of_models(tmp_path):
    assert model_folders("runs/a") == [Path("runs/a")]
    assert [str(folder) for folder in model_folders("[runs/a, runs/b-fold1]")] == ["runs/a", "runs/b-fold1"]
    assert model_folders("[]") == []
    (tmp_path / "[a,b]").mkdir()
    assert model_folders(str(tmp_path / "[a,b]")) == [tmp_path / "[a,b]"]
    every = tmp_path / "run" / "foldall"
    every.mkdir(parents=True)
    runs = {"runs": [{"fold": fold, "folder": f"../fold{fold}"} for fold in range(2)]}
    (every / "provenance.json").write_text(json.dumps(runs))
    assert model_folders(str(every)) == [tmp_path / "run" / "fold0", tmp_path / "run" / "fold1"]
    assert model_folders(f"[{every},x]")[-1].name == "x"


def test_predict_averages_the_models_that_it_is_given(folders, tmp_path, capsys):
    nib.save(nib.Nifti1Image(SCAN, np.eye(4)), tmp_path / "scan.nii")
    given = {"model": f"'[{folders[0]},{folders[1]}]'", "input": tmp_path / "scan.nii", "output": tmp_path / "masks"}
    predict.run(compose("predict", [f"{key}={value}" for key, value in given.items()]))
    assert "mean of 2 models" in capsys.readouterr().out
    joined, _ = ensemble([load_model(folder) for folder in folders])
    mask = np.asarray(nib.load(tmp_path / "masks" / "scan.nii").dataobj)
    np.testing.assert_array_equal(mask, joined.predict(tmp_path / "scan.nii").mask)
    record = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert [one["folder"] for one in record["model"]] == [str(folder) for folder in folders]
    assert record["model"][0]["sha256"] != record["model"][1]["sha256"]
