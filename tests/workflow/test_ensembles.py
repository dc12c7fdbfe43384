"""The best of runs and their ensembles, whose probabilities nobody kept."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from segment.command_line import override
from segment.commands import compare, predict
from segment.config.compose import compose_command
from segment.errors import UserError
from segment.runs.folder import read_run


def compared(*overrides: str) -> None:
    compare.run(*compose_command("compare", overrides))


@pytest.mark.usefixtures("without_comparison_page")
def test_ensembles_are_predicted_scored_and_compared_with_their_runs(two_stages, tmp_path, capsys):
    runs = f"runs=[{two_stages / 'low'},{two_stages / 'high'}]"
    given = [runs, f"output={tmp_path / 'best'}", "ensembles=true", "names=[coarse,cascade]", "resamples=200"]
    compared(*given)
    printed = capsys.readouterr().out
    folder = tmp_path / "best" / "ensembles" / "low+high"
    scans = read_run(folder).scans
    assert scans["fold"].nunique() == 2
    pd.testing.assert_frame_equal(
        scans[["case", "fold", "label", "reference_voxels"]],
        read_run(two_stages / "low").scans[["case", "fold", "label", "reference_voxels"]],
    )
    for name in ("coarse", "cascade", "coarse + cascade"):
        assert name in printed
    means = {"coarse": two_stages / "low", "cascade": two_stages / "high", "coarse + cascade": folder}
    best = max(means, key=lambda name: read_run(means[name]).summary["foreground"]["dice"]["mean"])
    assert f"Best: {best}, with the highest foreground Dice of 3" in printed
    assert "Predict with it: segment predict model=" in printed

    # The masks are those of the command that is printed, on the scans of each fold by the models of that fold.
    case = scans[scans["fold"] == 1]["case"].iloc[0]
    models = f"model=[{two_stages / 'low-fold1'},{two_stages / 'high-fold1'}]"
    scan = tmp_path / f"{case}.nii.gz"
    shutil.copy(two_stages / "data" / "imagesTr" / f"{case}_0000.nii.gz", scan)
    predict.run(*compose_command("predict", [override(models), f"input={scan}", f"output={tmp_path / 'masks'}"]))
    masks = [
        np.asarray(nib.load(place / f"{case}.nii.gz").dataobj) for place in (folder / "predictions", tmp_path / "masks")
    ]
    np.testing.assert_array_equal(*masks)

    # What is there is kept, what is missing is predicted again.
    (folder / "predictions" / f"{case}.nii.gz").unlink()
    kept = {file: file.stat().st_mtime_ns for file in (folder / "predictions").iterdir()}
    capsys.readouterr()
    compared(*given, "format=json")
    found = json.loads(capsys.readouterr().out)
    assert found["best"]["name"] == best
    assert kept.items() <= {file: file.stat().st_mtime_ns for file in (folder / "predictions").iterdir()}.items()
    pd.testing.assert_frame_equal(read_run(folder).scans, scans)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["runs=[{0}/low,{0}/high]"], "ensembles=true: give output=FOLDER"),
        (
            ["runs=[{0}/low,{0}/high]", "output={1}", "metric=nsd"],
            "metric=nsd: ensembles=true scores .* dice, iou",
        ),
        (["runs=[{0}/low,{0}/high]", "output={1}", "by=configuration"], "by=configuration: with ensembles=true"),
        (["runs=[{0}/low-fold0,{0}/high-fold1]", "output={1}", "common=true"], "No scan was scored in all runs"),
    ],
)
def test_what_ensembles_lack_is_said(two_stages, tmp_path, overrides, words):
    with pytest.raises(UserError, match=words):
        compared("ensembles=true", *(text.format(two_stages, tmp_path / "best") for text in overrides))


@pytest.fixture
def without_comparison_page(monkeypatch):
    """Leave the page out, which takes as long as all else."""
    monkeypatch.setattr("segment.report.comparison_page.write_comparison", lambda *given: None)
