"""Scoring of whole folders: all cores, any mix of formats, and on from where it was stopped."""

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from segment.errors import UserError
from segment.evaluation import score
from segment.evaluation.evaluate import evaluate, write_evaluation
from segment.evaluation.journal import FILE
from segment.metrics.hausdorff import HausdorffDistance
from segment.metrics.standard import STANDARD


def write_masks(folder, count, formats, shift=0):
    folder.mkdir()
    for place in range(count):
        mask = np.zeros((8, 9, 10), np.uint8)
        mask[2 : 6 - place % 3, 2:7, 2 + shift : 7] = 1
        image = sitk.GetImageFromArray(mask)
        image.SetSpacing((1.0, 1.5, 2.0))
        sitk.WriteImage(image, folder / f"s{place:02d}{formats[place % len(formats)]}")
    return folder


@pytest.fixture
def folders(tmp_path):
    """Function that writes predictions and references of some scans."""

    def write(count):
        masks = write_masks(tmp_path / "masks", count, [".mha", ".nii", ".nrrd"], shift=1)
        return masks, write_masks(tmp_path / "references", count, [".nii.gz", ".mha"])

    return write


def test_many_scans_of_any_formats_are_scored_by_processes_as_one_by_one(folders, tmp_path):
    masks, references = folders(18)
    found = evaluate(masks, references, metrics=(*STANDARD, HausdorffDistance()), kept=tmp_path / "out" / FILE)
    assert len((tmp_path / "out" / FILE).read_text().split()) > 18
    pairs = [(f"s{place:02d}", next(masks.glob(f"s{place:02d}.*")), next(references.glob(f"s{place:02d}.*")))
             for place in range(18)]  # fmt: skip
    alone = [score.score_pairs([pair], found.labels, "all", None, [HausdorffDistance()]) for pair in pairs]
    pd.testing.assert_frame_equal(found.scans, pd.concat(alone, ignore_index=True))
    assert found.scans["dice"].between(0.5, 0.99).all()
    assert found.confusion.sum() == 18 * 8 * 9 * 10
    write_evaluation(tmp_path / "out", found)
    names = ["confusion.csv", "provenance.json", "scans.csv", "summary.json"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names


class Stopped(Exception):
    """A kill."""


def test_a_stopped_evaluation_goes_on_and_scores_again_what_has_changed(folders, tmp_path, monkeypatch):
    masks, references = folders(6)
    kept = tmp_path / "out" / FILE
    scored = []

    def stop(done, total):
        if done == 3:
            raise Stopped

    def counted(pair, *rest):
        scored.append(pair[0])
        return own(pair, *rest)

    own = score._score_pair
    monkeypatch.setattr(score, "_score_pair", counted)
    monkeypatch.setattr("segment.parallel.cores", lambda: 1)
    with pytest.raises(Stopped):
        evaluate(masks, references, kept=kept, progress=stop)
    with kept.open("a") as file:
        file.write(json.dumps({"key": "cut"})[:-3])  # killed while it wrote
    assert not (tmp_path / "out" / "scans.csv").exists()
    scored.clear()
    found = evaluate(masks, references, kept=kept)
    assert scored == ["s03", "s04", "s05"]
    fresh = evaluate(masks, references)
    pd.testing.assert_frame_equal(found.scans, fresh.scans)
    np.testing.assert_array_equal(found.confusion, fresh.confusion)

    changed = sitk.ReadImage(masks / "s01.nii")
    changed[0, 0, 0] = 1
    sitk.WriteImage(changed, masks / "s01.nii")
    scored.clear()
    evaluate(masks, references, kept=kept)
    assert scored == ["s01"]
    for options in ({"metrics": (*STANDARD, HausdorffDistance(50))}, {"metrics": (*STANDARD, HausdorffDistance(60))}):
        scored.clear()
        evaluate(masks, references, kept=kept, **options)
        assert len(scored) == 6


@pytest.mark.parametrize(
    ("predicted", "referenced", "said"),
    [
        ({1}, {255}, "have the values 1 and the references 255: none in common"),
        ({1, 2}, {10, 20, 30, 40}, r"values 1, 2 and the references 10, 20, 30 and 1 more: none in common"),
        ({1}, {1, 255}, None),
        (set(), {255}, None),
    ],
)
def test_masks_without_a_common_value_are_refused_unless_labels_are_given(tmp_path, predicted, referenced, said):
    for name, values in (("masks", predicted), ("references", referenced)):
        (tmp_path / name).mkdir()
        mask = np.zeros((3, 4, 5), np.uint8)
        mask.flat[: len(values)] = sorted(values)
        sitk.WriteImage(sitk.GetImageFromArray(mask), tmp_path / name / "s.mha")
    folders = tmp_path / "masks", tmp_path / "references"
    if said is None:
        assert evaluate(*folders).scans["reference_voxels"].sum() == len(referenced)
        return
    with pytest.raises(UserError, match=said):
        evaluate(*folders)
    labels = {"background": 0} | {f"v{value}": value for value in predicted | referenced}
    assert set(evaluate(*folders, labels).scans["dice"]) == {0}
