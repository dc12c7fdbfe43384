"""Several raters: their consensus, the predictions against each of them, and what they agree on themselves."""

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from segment.commands import evaluate
from segment.config.compose import compose
from segment.errors import UserError
from segment.evaluation.consensus import majority, staple
from segment.io.images import read_label
from segment.metrics.overlap import confusion

SHAPE = (6, 10, 10)


def test_the_majority_is_more_than_half_and_nothing_else():
    masks = [np.array(row, np.uint8) for row in ([1, 1, 2, 0, 1, 2], [1, 2, 2, 0, 1, 0], [1, 0, 1, 1, 2, 2])]
    assert majority(masks).tolist() == [1, 0, 2, 0, 1, 2]
    assert majority(masks[:2]).tolist() == [1, 0, 2, 0, 1, 0]  # of two, both


def test_staple_trusts_the_raters_who_agree_and_is_exact_where_all_do():
    generator = np.random.default_rng(0)
    truth = np.zeros((20, 20), np.uint8)
    truth[3:12, 4:15], truth[14:18, 2:9] = 1, 2
    raters = []
    for wrong in (0.05, 0.05, 0.05, 0.4, 0.4, 0.4):
        mask = truth.copy()
        noisy = generator.random(truth.shape) < wrong
        mask[noisy] = generator.integers(0, 3, noisy.sum())
        raters.append(mask)
    assert (staple([truth] * 3) == truth).all()
    errors = [(found != truth).mean() for found in (staple(raters), majority(raters))]
    assert errors[0] < errors[1] < 0.2
    assert errors[0] < 0.01


def cube(start: int, stop: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:5, start:stop, 2:8] = 1
    return mask


@pytest.fixture
def folders(tmp_path):
    """Masks of a prediction and of three raters, of five scans."""
    for name, shift in (("masks", 1), ("ann", 0), ("bob", 0), ("cy", 2)):
        (tmp_path / name).mkdir()
        for place in range(5):
            image = sitk.GetImageFromArray(cube(1 + shift, 6 + shift - place % 2))
            sitk.WriteImage(image, tmp_path / name / f"s{place}.nii.gz")
    return tmp_path


def run(folders, *overrides):
    common = [f"predictions={folders}/masks", f"output={folders}/out", *overrides]
    evaluate.run(compose("evaluate", common))


def dice(one, other):
    counts = confusion(one, other, 2)
    return 2 * counts[1, 1] / (2 * counts[1, 1] + counts[0, 1] + counts[1, 0])


def test_every_rater_the_consensus_and_the_raters_themselves_are_scored(folders, capsys):
    run(folders, f"references=[{folders}/ann,{folders}/bob,{folders}/cy]", "consensus=majority")
    text = capsys.readouterr().out
    table = pd.read_csv(folders / "out" / "raters.csv")
    assert table.groupby(["prediction", "reference"], sort=False).ngroups == 3 + 2 + 3
    masks = {name: [read_label(folders / name / f"s{place}.nii.gz").array for place in range(5)]
             for name in ("masks", "ann", "bob", "cy")}  # fmt: skip
    for (first, second), rows in table.groupby(["prediction", "reference"]):
        if second in masks:
            one = masks["masks" if first == "prediction" else first]
            expected = [dice(a, b) for a, b in zip(one, masks[second], strict=True)]
            np.testing.assert_allclose(rows["dice"], expected)
    agreed = read_label(folders / "out" / "consensus" / "majority" / "s0.nii.gz").array
    np.testing.assert_array_equal(agreed, masks["ann"][0])  # two of three
    scans = pd.read_csv(folders / "out" / "scans.csv")
    np.testing.assert_allclose(scans["dice"], [dice(a, b) for a, b in zip(masks["masks"], masks["ann"], strict=True)])
    summary = json.loads((folders / "out" / "summary.json").read_text())
    own = summary["raters"]["agreement"]["dice"]
    means = table[table["reference"].isin(["ann", "bob", "cy"])].groupby("prediction")["dice"].mean()
    assert own["ours"]["mean"] == pytest.approx(means["prediction"])
    human = [means["ann"], means["ann"], means["bob"]]  # ann is compared with two raters, bob with one
    assert own["human"]["mean"] == pytest.approx(np.mean(human))
    assert own["difference"]["mean"] == pytest.approx(means["prediction"] - np.mean(human))
    assert summary["protocol"]["consensus"] == "majority"
    assert f"raters among each other {np.mean(human):.4f}" in text
    assert '<h2 id="raters">Raters</h2>' in (folders / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("references", "said"),
    [("[ann,ann]", "the same folder is given twice"), ("[ann,nobody]", "nobody: there is no such"), ("[]", "give the")],
)
def test_raters_that_cannot_be_are_told(folders, monkeypatch, references, said):
    monkeypatch.chdir(folders)
    with pytest.raises(UserError, match=said):
        run(folders, f"references={references}")
    assert not (folders / "out").exists()


def test_a_rater_who_lacks_a_scan_or_has_another_grid_is_told(folders):
    given = f"references=[{folders}/ann,{folders}/cy]"
    image = sitk.ReadImage(folders / "cy" / "s3.nii.gz")
    image.SetSpacing((2.0, 1.0, 1.0))
    sitk.WriteImage(image, folders / "cy" / "s3.nii.gz")
    with pytest.raises(UserError, match=r"cy.s3\.nii\.gz is not on the grid of .*ann"):
        run(folders, given)
    (folders / "cy" / "s3.nii.gz").unlink()
    with pytest.raises(UserError, match=r"no reference for 1 of the 5 .*s3"):
        run(folders, given)
