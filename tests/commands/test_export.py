"""The verb export on a trained model, and what predict makes of its folder."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from segment import api
from segment.commands import export, predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.inference.description import set_postprocessing
from segment.inference.postprocessing import LARGEST, Step


def run(verb, module, **values) -> None:
    module.run(compose(verb, [f"{key}={value}" for key, value in values.items()]))


@pytest.fixture(scope="module")
def exported(tested_folds, tmp_path_factory):
    """A run's model as OpenVINO computes it in fp32."""
    folder = tmp_path_factory.mktemp("exports") / "openvino"
    run("export", export, model=tested_folds / "cv-fold0", output=folder)
    return folder


def test_predict_takes_an_export_and_writes_the_masks_of_its_network(tested_folds, exported, tmp_path, capsys):
    inputs = tested_folds / "data" / "images" / "test"
    for name, model in (("network", tested_folds / "cv-fold0"), ("export", exported)):
        run("predict", predict, model=model, input=inputs, output=tmp_path / name)
    assert "engine is openvino here, torch for the model's scores, as exported" in capsys.readouterr().err
    for file in (tmp_path / "network").glob("*.png"):
        np.testing.assert_array_equal(Image.open(tmp_path / "export" / file.name), Image.open(file))
    record = json.loads((tmp_path / "export" / "predictions.json").read_text())
    assert record["predicted"] == record["scored"] | {"engine": "openvino"}
    assert record["model"]["weights"] == str(exported / "network.bin")
    with pytest.warns(UserWarning, match="as exported"):
        prediction = api.load_model(exported).predict(inputs / "0.png")
    np.testing.assert_array_equal(prediction.mask.T, Image.open(tmp_path / "network" / "0.png"))


def test_the_comparison_is_kept_and_names_no_scan(exported, tested_folds):
    content = json.loads((exported / "model.json").read_text())
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.md", "model.json", "network.bin", "network.xml"
    ]  # fmt: skip
    assert content["format"] == 2
    found = content["export"]["comparison"]
    assert found["source"] == "validation scans of the run"
    assert found["scans"] == 2
    assert found["agreement"] > 0.999
    assert found["logit_difference"] < 1e-4
    assert all(dice is None or dice > 0.999 for dice in found["dice"].values())
    assert str(tested_folds) not in json.dumps(content)
    assert ".py" not in (exported / "network.xml").read_text()  # where torch's exporter found each operation


def test_the_best_checkpoint_is_exported_with_its_postprocessing(tested_folds, exported, tmp_path, capsys):
    model, steps = shutil.copytree(tested_folds / "cv-fold0", tmp_path / "run"), (Step(LARGEST, "label_1"),)
    set_postprocessing(model / "model", steps)
    run("export", export, model=model, output=tmp_path / "best", checkpoint="best", format="onnx")
    printed = capsys.readouterr().out
    assert "voxels of the same class" in printed
    assert f"segment predict model={tmp_path / 'best'}" in printed
    assert json.loads((tmp_path / "best" / "model.json").read_text())["format"] == 3  # for versions without the steps
    assert api.load_model(tmp_path / "best").postprocessing == steps
    with pytest.raises(UserError, match="checkpoint=best: the model is an export"):
        run(
            "predict",
            predict,
            model=exported,
            input=tested_folds / "data" / "images" / "test",
            output=tmp_path / "masks",
            checkpoint="best",
        )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"format": "keras"}, "format=keras"),
        ({"precision": "int4"}, "precision=int4"),
        ({"precision": "bf16", "format": "onnx"}, "precision=bf16"),
        ({"input": "nowhere"}, "input=nowhere"),
        ({"calibration": "nowhere"}, "calibration=nowhere"),
        ({"scans": 0}, "scans=0"),
        ({"agreement": 2}, "agreement=2"),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_done(given, words, tested_folds, tmp_path):
    with pytest.raises(UserError, match=words):
        run("export", export, model=tested_folds / "cv-fold0", output=tmp_path / "exported", **given)
    assert not [*tmp_path.iterdir()]


def test_an_export_is_not_exported_again(exported, tmp_path):
    with pytest.raises(UserError, match="is an export itself"):
        run("export", export, model=exported, output=tmp_path / "again")
