"""A cascade: both stages trained on scans larger than the patch, predicted from the second one's folder alone."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from whole_runs import stage_arguments

from segment.commands import predict, train
from segment.config.compose import compose, compose_command
from segment.errors import UserError
from segment.files import file_sha256
from segment.inference.ensemble import ensemble
from segment.inference.limits import model_folders
from segment.inference.model import load_model


def mask(file: Path) -> np.ndarray:
    return np.asarray(nib.load(file).dataobj)


def test_every_scan_is_seen_with_the_mask_of_a_model_that_was_not_trained_on_it(two_stages):
    record = json.loads((two_stages / "high-fold0" / "provenance.json").read_text())
    validated = {}
    for fold in range(2):
        lowres = two_stages / f"low-fold{fold}"
        split = json.loads((lowres / "provenance.json").read_text())["split"]
        assert not set(split["val"]) & set(split["train"])
        validated |= {case: file_sha256(lowres / "predictions" / f"{case}.nii.gz") for case in split["val"]}
    assert record["cascade"]["masks"] == validated
    assert len(validated) == 4
    assert record["cascade"]["folder"] == str(two_stages / "low-fold0")  # its validation scans are scored here
    content = json.loads((two_stages / "high-fold0" / "model" / "model.json").read_text())
    assert content["network"]["in_channels"] == 1 + 2
    assert content["plan"]["previous_stage"] == "3d_lowres"


def test_the_folder_of_the_second_stage_predicts_what_was_scored(two_stages, tmp_path):
    shutil.copytree(two_stages / "high" / "model" / "fold1", tmp_path / "handed_over")
    scans = tmp_path / "scans"
    scans.mkdir()
    scored = {file.name: file for file in (two_stages / "high-fold1" / "predictions").glob("*.nii.gz")}
    for name in scored:
        shutil.copy(two_stages / "data" / "imagesTr" / name.replace(".nii", "_0000.nii"), scans / name)
    given = [f"model={tmp_path / 'handed_over'}", f"input={scans}", f"output={tmp_path / 'masks'}"]
    predict.run(compose("predict", given))
    assert len(scored) == 2
    for name, file in scored.items():
        assert mask(file).any()
        np.testing.assert_array_equal(mask(tmp_path / "masks" / name), mask(file))
    record = json.loads((tmp_path / "masks" / "predictions.json").read_text())
    assert record["model"]["first_stage"]["folder"].endswith("handed_over/previous")
    assert record["predicted"]["first_stage"] == record["scored"]["first_stage"]


def test_the_first_stage_matters_and_folds_share_the_mask_of_all_first_stages(two_stages):
    scan = two_stages / "data" / "imagesTr" / "case_a00_0000.nii.gz"
    models = [load_model(folder) for folder in model_folders(str(two_stages / "high"))]
    alone = [model.predict(scan, probabilities=True).probabilities["ball_2"] for model in models]
    joined, notes = ensemble(models)
    assert (notes, joined.groups) == ((), ())
    assert len(joined.previous.members) == 2
    together = joined.predict(scan, probabilities=True).probabilities["ball_2"]
    assert not np.allclose(together, alone[0], atol=1e-4)
    for model in models:
        model.previous.network.requires_grad_(False)
        for weights in model.previous.network.parameters():
            weights.mul_(-1)
    changed = models[0].predict(scan, probabilities=True).probabilities["ball_2"]
    assert not np.allclose(changed, alone[0], atol=1e-4)


ERRORS = {
    ("plan.configuration=3d_cascade_fullres",): "is the second stage .* plan.configuration=3d_lowres fold=all",
    ("cascade={}/low-fold0",): r"cascade=.*: 2 of 4 scans \(such as case_.*\) have no mask .* train it with fold=all",
    ("cascade={}/low", "plan.configuration=3d_fullres"): "no second stage of a cascade. Leave out cascade=",
    ("cascade={}/low/model",): "low/model/fold0 is no run folder, .* A model folder is not enough",
    ("cascade={}/nothing",): "cascade=.*nothing: there is no such folder",
    ("cascade={}/low", "splits=crossed"): "no fold of the first stage validated all scans",
}


@pytest.mark.parametrize("overrides", ERRORS, ids=" ".join)
def test_what_the_second_stage_lacks_is_said(two_stages, overrides, tmp_path):
    given = [text.format(two_stages) for text in overrides]
    if "splits=crossed" in given:  # stands for folds that no fold of the first stage validates
        splits = tmp_path / "splits.json"
        names = sorted(file.name[:8] for file in (two_stages / "data" / "labelsTr").iterdir())
        first = json.loads((two_stages / "low-fold0" / "splits.json").read_text())[0]
        crossed = [first["val"][0], first["train"][0]]
        rest = [name for name in names if name not in crossed]
        splits.write_text(json.dumps([{"train": rest, "val": crossed}, {"train": crossed, "val": rest}]))
        given = [given[0], f"splits={splits}"]
    arguments = stage_arguments(two_stages, two_stages / "data", "none", "fold=0", f"output={tmp_path / 'run'}", *given)
    with pytest.raises(UserError, match=ERRORS[overrides]):
        train.run(*compose_command("train", arguments))
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_masks_of_other_scans_of_the_same_name_are_refused(two_stages, make_dataset, tmp_path):
    other = make_dataset(tmp_path / "data", n=4, shape=(12, 20, 22), spacing=(1.5, 1.0, 1.0), seed=1)
    arguments = stage_arguments(tmp_path, other, "high", "fold=0", f"cascade={two_stages / 'low'}")
    with pytest.raises(UserError, match="was scored on another scan called 'case_"):
        train.run(*compose_command("train", arguments))


def test_a_model_folder_without_a_sound_first_stage_is_refused(two_stages, tmp_path):
    own = tmp_path / "model"
    shutil.copytree(two_stages / "high-fold0" / "model", own)
    shutil.rmtree(own / "previous")
    with pytest.raises(UserError, match="previous/, the first stage, is missing"):
        load_model(own)
    (own / "previous").symlink_to(".")  # for ever a second stage in a second stage
    with pytest.raises(UserError, match="is the second stage of a cascade in place of the first"):
        load_model(own)
