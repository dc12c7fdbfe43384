"""An export is compared with its network on real scans, refused beyond a bound, and written whole or not at all."""

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_dicom import make_series
from saved_models import save

from segment.errors import UserError
from segment.export.checks import check_output, check_precision
from segment.export.compare import Bound, Comparison
from segment.export.export import export_model
from segment.export.scans import NOISE, evenly, noise, scans_to_calibrate, scans_to_compare
from segment.inference.inputs import Studies
from segment.inference.model import load_model
from segment.instruction_set import onednn_isa
from segment.preprocessing.plan import Intensity, Plan

OLD = Path(__file__).parents[1] / "fixtures" / "runs_of_november_2026"
IMAGES = OLD / "scans" / "imagesTr"


@pytest.fixture(scope="module")
def volumes():
    """A trained 3D model."""
    return load_model(OLD / "seed0")


@pytest.mark.parametrize(
    ("format", "precision", "logits", "agreement"),
    [("openvino", "bf16", 0.1, 0.99), ("openvino", "int8", 0.3, 0.97), ("onnx", "int8", 0.3, 0.97)],
)
def test_a_3d_model_in_fewer_bits_gives_almost_the_same_masks(volumes, tmp_path, format, precision, logits, agreement):
    scans = scans_to_compare(volumes, IMAGES, 2)
    written = export_model(volumes, tmp_path / "exported", format, precision, scans, scans)
    comparison = written.comparison
    # Without VNNI, sums of products saturate at 16 bits.
    saturates = precision == "int8" and "AVX512" not in onednn_isa()
    assert 0 < comparison.share < (1 if saturates else logits)
    assert comparison.agreement > agreement
    assert all(dice > 0.9 for dice in comparison.dice.values())
    content = json.loads((tmp_path / "exported" / "model.json").read_text())
    assert content["export"]["comparison"]["scans"] == 2
    assert content["export"]["comparison"]["agreement"] == comparison.agreement
    assert "case_" not in json.dumps(content["export"])
    for program, ran in run_blocks(written.folder).items():
        assert ran["logits"].shape == volumes.shapes[1], program
        assert ran["classes"].shape == (1, *volumes.plan.patch_size), program
    image = next(IMAGES.iterdir())
    with pytest.warns(UserWarning, match="as exported"):
        mask = load_model(written.folder).predict(image).mask
    assert np.mean(mask == volumes.predict(image).mask) > 0.99


def run_blocks(folder):
    """Run the five lines for each program in an export's README; their variables."""
    found = {}
    for title, code in re.findall(r"## ([^\n]+)\n\n```python\n(.*?)```", (folder / "README.md").read_text(), re.S):
        assert len(code.splitlines()) <= 5
        found[title] = {}
        with contextlib.chdir(folder):
            exec(code, found[title])
    assert "OpenVINO" in found
    return found


def test_an_export_beyond_its_bound_is_refused_and_leaves_nothing(tmp_path):
    save(tmp_path / "model")
    model = load_model(tmp_path / "model")
    scans = scans_to_compare(model, None, 4)
    assert str(scans) == f"1 {NOISE}"
    with pytest.raises(UserError, match=r"of the voxels the same class .* less than 100.00%.*Nothing was written"):
        export_model(model, tmp_path / "exported", "openvino", "bf16", scans, agreement=1)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


GOOD = Comparison("given scans", 2, 8, 0.001, 10.0, 0.9999, {"a": 0.99, "b": None}, Bound(0.999, 1e-3))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"agreement": 0.99}, "99.00% of the voxels"),
        ({"agreement": float("nan")}, "of the voxels"),
        ({"logit_difference": 0.1}, "up to 0.01 of the largest"),
        ({"logit_difference": float("nan")}, "of the largest"),
    ],
)
def test_a_comparison_is_held_to_its_bound(wrong, words):
    GOOD.check()
    with pytest.raises(UserError, match=rf"{words}.*2 given scans \(Dice of both masks: a 0.990, b -\)"):
        replace(GOOD, **wrong).check()


def test_noise_is_in_the_range_of_the_plan():
    plan = Plan((3.0, 2.0, 1.0), (8, 16, 24), 2, ("ct", "ct"), (), (Intensity(40, 5, 0, 80), Intensity(-9, 1, -12, 0)))
    voxels, affine = noise(plan, 2)
    assert voxels.shape == (24, 16, 8, 2)
    np.testing.assert_array_equal(np.diag(affine), [1, 2, 3, 1])
    np.testing.assert_allclose(voxels.mean((0, 1, 2)), [40, -9], atol=0.5)
    np.testing.assert_array_equal(voxels, noise(plan, 2)[0])
    sliced = Plan((2.0, 1.0), (16, 24), 2, ("zscore",), (0, 1, 2))
    assert noise(sliced, 1)[0].shape == (24, 16, 2)


def test_scans_are_those_given_else_those_of_the_run(tested_folds, tmp_path):
    model = load_model(tested_folds / "cv-fold0")
    record = json.loads((tested_folds / "cv-fold0" / "provenance.json").read_text())
    for scans, split in (
        (scans_to_compare(model, None, 9), "val"),
        (scans_to_calibrate(model, None, None, 9), "train"),
    ):
        expected = [[Path(file) for file in record["cases"][case]["images"]] for case in record["split"][split]]
        assert [files for (files,) in scans.scans] == expected
        assert "of the run" in scans.source
    given = tested_folds / "data" / "images" / "test"
    assert str(scans_to_compare(model, given, 2)) == "2 given scans"
    alone = replace(model, folder=tmp_path)
    assert scans_to_compare(alone, None, 4).source == NOISE
    assert str(scans_to_calibrate(alone, None, given, 9)) == "3 given scans"
    with pytest.raises(UserError, match=r"precision=int8: is calibrated on scans.*calibration="):
        scans_to_calibrate(alone, None, None, 9)
    with pytest.raises(UserError, match=r"calibration=.*nowhere: there is no such file"):
        scans_to_calibrate(alone, tmp_path / "nowhere", given, 9)
    assert evenly([*range(10)], 3) == [0, 3, 6]
    assert evenly([*range(5)], 4) == [0, 1, 2, 3]
    assert evenly([], 4) == []


def test_only_an_export_is_replaced_and_only_if_asked_for(tmp_path):
    check_output(tmp_path / "new", overwrite=False)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not an export"):
        check_output(tmp_path, overwrite=True)
    (tmp_path / "model.json").write_text('{"export": {}}')
    with pytest.raises(UserError, match="overwrite=true"):
        check_output(tmp_path, overwrite=False)
    check_output(tmp_path, overwrite=True)


def test_what_cannot_be_exported_is_said(monkeypatch):
    with pytest.raises(UserError, match=r"precision=bf16: .*format=openvino"):
        check_precision("onnx", "bf16")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "nncf" else name)
    check_precision("openvino", "fp32")
    with pytest.raises(UserError, match=r"format=openvino: needs nncf.*pip install 'segment\[export\]'"):
        check_precision("openvino", "int8")


def test_series_of_a_study_are_the_channels_that_int8_is_calibrated_on(tmp_path):
    model = load_model(OLD / "seed0")
    two = replace(model, channels=("T1", "T2"))
    for patient in "AB":
        for number, description in enumerate(("t2", "t1 mprage")):

            def change(index, dataset, patient=patient, description=description):
                dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = f"2.25.{ord(patient)}", "2.25.1"
                dataset.SeriesDescription, dataset.Modality = description, "MR"

            make_series(tmp_path / "in" / patient / description, seed=number, patient=patient, change=change)
    studies = Studies(two.channels, {}, tmp_path / "resampled")
    found = scans_to_calibrate(two, tmp_path / "in", None, 9, studies)
    assert [[path.parent.name for path in files] for (files,) in found.scans] == [["t1 mprage", "t2"]] * 2
    wrong = Studies(two.channels, {"T9": "t2"}, tmp_path / "resampled")
    with pytest.raises(UserError, match=r"series\.T9: the model has no such channel"):
        scans_to_compare(two, tmp_path / "in", 9, wrong)
    with pytest.raises(UserError, match=r"calibration=.*: in the study 'A', no series fits the channel 'DWI'"):
        scans_to_calibrate(two, tmp_path / "in", None, 9, Studies(["T1", "DWI"], {}, tmp_path))
