import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import DiceMetric
from monai.networks.utils import one_hot

from segment.metrics.hausdorff import HausdorffDistance
from segment.metrics.scan import STATUSES, score_scan
from segment.metrics.standard import STANDARD
from segment.metrics.surface_dice import SurfaceDice

LABELS = {"liver": [1], "tumour": [2]}, 3
MASK = hnp.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 2))


@pytest.mark.parametrize(
    ("predicted", "referenced", "status", "score"),
    [(0, 0, "both_empty", None), (0, 4, "missed", 0.0), (4, 0, "invented", 0.0), (4, 4, "ok", 1.0)],
)
def test_one_policy_for_empty_structures(predicted, referenced, status, score):
    prediction, reference = np.zeros((2, 3, 3), np.uint8)
    prediction.ravel()[:predicted] = 2
    reference.ravel()[:referenced] = 2
    tumour = score_scan(prediction, reference, *LABELS)[1]
    assert (tumour.name, tumour.label, tumour.status) == ("tumour", 2, status)
    assert (tumour.reference_voxels, tumour.predicted_voxels) == (referenced, predicted)
    assert list(tumour.scores) == ["dice", "iou"]
    for value in tumour.scores.values():
        assert math.isnan(value) if score is None else value == score


def test_disjoint_structures_score_zero_but_are_not_missed():
    score = score_scan(np.array([1, 0, 0]), np.array([0, 0, 1]), {"a": [1]}, 2)[0]
    assert (score.status, score.scores) == ("ok", {"dice": 0.0, "iou": 0.0})


@given(MASK, MASK)
@settings(max_examples=40, deadline=None)
def test_scores_are_missing_exactly_when_both_are_empty(prediction, reference):
    for score in score_scan(prediction, reference, *LABELS):
        assert score.status in STATUSES
        assert [math.isnan(value) for value in score.scores.values()] == [score.status == "both_empty"] * 2
        assert score.reference_voxels == (reference == score.label).sum()
        assert score.predicted_voxels == (prediction == score.label).sum()


@given(MASK, MASK)
@settings(max_examples=25, deadline=None)
def test_equals_monai_where_the_reference_is_not_empty(prediction, reference):
    encode = [one_hot(torch.tensor(mask)[None, None].long(), 3) for mask in (prediction, reference)]
    theirs = DiceMetric(include_background=False, reduction="none")(*encode)[0]
    for score, dice in zip(score_scan(prediction, reference, *LABELS), theirs, strict=True):
        if score.reference_voxels:
            assert score.scores["dice"] == pytest.approx(float(dice), abs=1e-6)
        else:
            assert torch.isnan(dice)


@given(MASK, MASK, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_empty_surroundings_change_no_score(prediction, reference, margins):
    metrics = (*STANDARD, HausdorffDistance(100), SurfaceDice(1))
    score = functools.partial(score_scan, structures=LABELS[0], n_classes=3, metrics=metrics, spacing=(2, 1, 1.5))
    within = score(np.pad(prediction, margins), np.pad(reference, margins))
    for alone, placed in zip(score(prediction, reference), within, strict=True):
        assert placed.status == alone.status
        if alone.status == "ok":  # a missed structure costs the scan's diagonal
            assert placed.scores == alone.scores


def test_background_alone_gives_no_scores_and_unnamed_class_is_refused():
    assert score_scan(np.zeros((2, 2), int), np.zeros((2, 2), int), {}, 1) == []
    with pytest.raises(ValueError, match="0 to 2"):
        score_scan(np.array([3]), np.array([1]), *LABELS)


@given(MASK, MASK)
@settings(max_examples=25, deadline=None)
def test_a_region_scores_as_the_union_of_its_classes_and_ignored_voxels_as_if_cut_out(prediction, reference):
    regions = {"whole": [1, 2], "core": [2]}
    for region, classes in zip(score_scan(prediction, reference, regions, 3), regions.values(), strict=True):
        union = [np.isin(mask, classes).astype(np.uint8) for mask in (prediction, reference)]
        alone = score_scan(*union, {region.name: [1]}, 2)[0]
        assert region.status == alone.status
        assert region.scores == pytest.approx(alone.scores, nan_ok=True)
    hidden = reference.copy()
    hidden[0] = 255
    cut = score_scan(prediction[1:], reference[1:], *LABELS)
    for kept, score in zip(cut, score_scan(prediction, hidden, *LABELS, ignore=255), strict=True):
        assert (kept.reference_voxels, kept.predicted_voxels, kept.status) == (
            score.reference_voxels,
            score.predicted_voxels,
            score.status,
        )
        assert score.scores == pytest.approx(kept.scores, nan_ok=True)
