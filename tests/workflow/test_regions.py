"""Overlapping regions and unannotated voxels in a whole run; slices of 3D scans."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from segment.commands import evaluate, predict
from segment.config.compose import compose
from segment.errors import UserError
from segment.metrics.detection import detection, detections
from segment.runs.detection import read_detection
from segment.runs.summary import read_summary

pytestmark = pytest.mark.usefixtures("without_pages")

REGIONS = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 7}


@pytest.fixture
def regions(make_dataset, tmp_path):
    """Nested balls as regions; the lowest slices of every mask are not annotated."""
    root = make_dataset(tmp_path / "data", layout="nnunet", n=4)
    for path in (root / "labelsTr").iterdir():
        image = nib.load(path)
        mask = np.asarray(image.dataobj).copy()
        mask[:, :, :4] = 7
        nib.save(nib.Nifti1Image(mask, image.affine), path)
    described = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(described | {"labels": REGIONS, "regions_class_order": [1, 2]}))
    return root


def verb(module, name: str, *overrides: str) -> None:
    module.run(compose(name, overrides))


def test_regions_are_trained_predicted_and_scored(run_train, regions, tmp_path, capsys):
    run = run_train(
        regions, "run", "trainer.max_steps=40", "sampler.steps_per_epoch=20", "optimizer.lr=0.01", "detection=mean"
    )
    scans = pd.read_csv(run / "scans.csv")
    assert set(scans["name"]) == {"whole", "core"}
    for case, rows in scans.set_index("name").groupby("case"):
        predicted, reference = (
            np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj)[:, :, 4:]
            for folder in (run / "predictions", regions / "labelsTr")
        )
        assert set(np.unique(predicted)) <= {0, 1, 2}
        for name, values in (("whole", [1, 2]), ("core", [2])):
            a, b = np.isin(predicted, values), np.isin(reference, values)
            assert rows.loc[name, "reference_voxels"] == b.sum()
            assert rows.loc[name, "dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert scans["dice"].mean() > 0.5
    model = json.loads((run / "model" / "model.json").read_text())
    assert (model["labels"], model["region_order"]) == (REGIONS | {"core": [2]}, [1, 2])
    assert model["network"]["out_channels"] == 2

    case = scans["case"].iloc[0]
    image = next((regions / "imagesTr").glob(f"{case}_0000*"))
    given = [f"model={run}", f"input={image}", f"output={tmp_path / 'again'}"]
    verb(predict, "predict", *given, "precision=32-true", "probabilities=true")
    again, first = (
        np.asarray(nib.load(folder / f"{case}.nii.gz").dataobj) for folder in (tmp_path / "again", run / "predictions")
    )
    np.testing.assert_array_equal(again, first)
    lesions_are_detected(run, regions / "labelsTr" / f"{case}.nii.gz", tmp_path / "again", capsys.readouterr().out)


def lesions_are_detected(run: Path, reference: Path, predicted: Path, told: str) -> None:
    """The run's detection is that of the mask and the maps of probabilities that predict writes of its one scan."""
    mask, truth, maps = (
        np.asarray(nib.load(file).dataobj)[:, :, 4:]
        for file in (predicted / reference.name, reference, predicted / "probabilities" / reference.name)
    )
    record = read_summary(run / "summary.json")["detection"]
    curves = read_detection(run / "detection.csv")
    for index, (name, values) in enumerate((("whole", [1, 2]), ("core", [2]))):
        found = detections(np.isin(mask, values), np.isin(truth, values), maps[..., index], "mean")
        expected, own = detection(found), record["structures"][name]
        assert (own["scans"], own["lesions"], own["predicted"]) == (1, found.references, len(found.scores))
        assert [*own["average_precision"].values()] == pytest.approx(expected.average_precision.tolist())
        assert [*own["sensitivity"].values()] == pytest.approx(expected.at_rates.tolist())
        assert curves[name][0, 0] == pytest.approx(found.scores[found.right[0]].max(), abs=1e-4)
        assert (
            f"{name} mAP {own['mean_average_precision']:.4f}, FROC {own['froc']:.4f}, lesions {own['lesions']}" in told
        )


def test_scores_of_masks_from_elsewhere_know_the_regions(regions, tmp_path):
    verb(
        evaluate, "evaluate", f"predictions={regions / 'labelsTr'}", f"references={regions / 'labelsTr'}",
        f"output={tmp_path / 'scores'}", "labels={background: 0, whole: [1, 2, 7], core: [2]}", "region_order=[1,2]",
    )  # fmt: skip
    scans = pd.read_csv(tmp_path / "scores" / "scans.csv")
    assert set(scans["name"]) == {"whole", "core"}
    assert (scans["dice"] == 1).all()


def test_loss_for_exclusive_classes_is_refused(run_train, regions, tmp_path):
    with pytest.raises(UserError, match=r"cannot be computed on regions.*whole, core.*loss=dice_ce"):
        run_train(regions, "run", "loss=dice")
    assert not (tmp_path / "runs").exists()


def test_a_loss_of_regions_is_refused_where_labels_exclude_each_other(run_train, make_dataset, tmp_path):
    with pytest.raises(UserError, match=r"cannot be computed on mutually exclusive labels.*loss=dice_ce"):
        run_train(make_dataset(tmp_path / "data", n=4), "run", "loss=dice_sigmoid")
    assert not (tmp_path / "runs").exists()


def test_slices_of_3d_scans_train_a_2d_network(run_train, make_dataset, tmp_path):
    root = make_dataset(tmp_path / "data", n=4, spacing=(3.0, 1.0, 1.0))
    run = run_train(
        root, "run", "plan.configuration=2d", "plan.patch_size=[16,16]", "plan.batch_size=4", "trainer.max_steps=30",
        "sampler.steps_per_epoch=15", "optimizer.lr=0.01",
    )  # fmt: skip
    model = json.loads((run / "model" / "model.json").read_text())
    assert (model["network"]["spatial_dims"], model["plan"]["spacing"]) == (2, [1.0, 1.0])
    assert pd.read_csv(run / "scans.csv")["dice"].mean() > 0.3
    image = sorted((root / "imagesTr").iterdir())[0]
    verb(predict, "predict", f"model={run}", f"input={image}", f"output={tmp_path / 'masks'}")
    (mask,) = (tmp_path / "masks").glob("*.nii.gz")
    assert nib.load(mask).shape == nib.load(image).shape
