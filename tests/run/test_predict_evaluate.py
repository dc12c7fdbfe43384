"""The verbs predict and evaluate on a trained model."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from segment import cli
from segment.errors import UserError
from segment.run import configure, evaluate, predict
from segment.run.predict import find_scans


def run(verb, module, **values) -> None:
    overrides = [f"{key}={value}" for key, value in values.items()]
    module.run(configure.compose(verb, overrides, cli.config_folders()))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_predict_writes_masks_on_the_inputs_own_grid_format_and_name(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4)
    model = run_train(root, "run", "trainer.max_steps=30", "sampler.steps_per_epoch=30")
    source = next(iter(sorted((model / "predictions").iterdir())))
    scan = nib.load(root / "imagesTr" / f"{source.name.split('.')[0]}_0000.nii.gz")
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    nib.save(scan, inputs / "plain.nii.gz")
    # The same scan, its voxels stored in another order: world positions are unchanged.
    turned = scan.as_reoriented(nib.orientations.axcodes2ornt(("P", "I", "R")))
    nib.save(turned, inputs / "turned.nii.gz")
    image = sitk.GetImageFromArray(np.asarray(scan.dataobj).T)
    image.SetOrigin((0, 0, 0))
    sitk.WriteImage(image, inputs / "other.mha")

    run("predict", predict, model=model, input=inputs, output=tmp_path / "masks")
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["other.mha", "plain.nii.gz", "turned.nii.gz"]
    plain = nib.load(tmp_path / "masks" / "plain.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "masks" / "plain.nii.gz"), voxels(source))
    assert len(np.unique(voxels(source))) > 1
    mask = nib.load(tmp_path / "masks" / "turned.nii.gz")
    assert mask.shape == turned.shape
    np.testing.assert_allclose(mask.affine, turned.affine)
    back = mask.as_reoriented(nib.io_orientation(mask.affine))
    np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(plain.dataobj))
    assert sitk.ReadImage(tmp_path / "masks" / "other.mha").GetSize() == image.GetSize()

    with pytest.raises(UserError, match="take the place of an input"):
        run("predict", predict, model=model, input=inputs, output=inputs)


def test_evaluate_scores_masks_of_any_program(make_dataset, tmp_path, capsys):
    root = make_dataset(tmp_path / "data", n=3)
    masks = tmp_path / "masks"
    masks.mkdir()
    files = sorted((root / "labelsTr").iterdir())
    for number, file in enumerate(files):
        image = nib.load(file)
        array = np.asarray(image.dataobj).copy()
        if number == 0:
            array[array == 2] = 0
        nib.save(nib.Nifti1Image(array, image.affine), masks / file.name)
    run("evaluate", evaluate, predictions=masks, references=root / "labelsTr", output=tmp_path / "scores")
    scans = pd.read_csv(tmp_path / "scores" / "scans.csv")
    first = scans[scans["case"] == files[0].name.split(".")[0]].set_index("name")
    assert first.loc["ball_2", "status"] == "missed"
    assert first.loc["ball_2", "dice"] == 0
    assert set(scans[scans["status"] == "ok"]["dice"]) == {1.0}
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["labels"]["ball_2"]["dice"]["mean"] == pytest.approx(2 / 3)
    assert summary["empty"]["missed"] == {"ball_1": 0, "ball_2": 1}
    assert "ball_2" in capsys.readouterr().out


def test_evaluate_refuses_another_grid_and_writes_nothing(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=2)
    file = next((root / "labelsTr").iterdir())
    masks = tmp_path / "masks"
    masks.mkdir()
    for other in (root / "labelsTr").iterdir():
        image = nib.load(other)
        affine = np.diag([2.0, 1, 1, 1]) if other == file else image.affine
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), masks / other.name)
    with pytest.raises(UserError, match=file.name):
        run("evaluate", evaluate, predictions=masks, references=root / "labelsTr", output=tmp_path / "scores")
    assert not (tmp_path / "scores").exists()


@pytest.mark.parametrize(
    ("names", "channels", "expected"),
    [
        (["a.nii.gz", "b.nii.gz"], 1, {"a.nii.gz": 1, "b.nii.gz": 1}),
        (["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"], 2, {"a.nii.gz": 2, "b.nii.gz": 2}),
        (["a_0000.nii.gz"], 1, {"a.nii.gz": 1}),
        (["scan_2019.png"], 1, {"scan_2019.png": 1}),
        (["a.png"], 3, {"a.png": 1}),
    ],
)
def test_scans_are_found_with_their_channels(tmp_path, names, channels, expected):
    for name in names:
        (tmp_path / name).touch()
    assert {name: len(files) for name, files in find_scans(tmp_path, channels)} == expected


def test_a_missing_channel_is_named(tmp_path):
    (tmp_path / "a_0000.nii.gz").touch()
    with pytest.raises(UserError, match="a_0000"):
        list(find_scans(tmp_path, 2))
