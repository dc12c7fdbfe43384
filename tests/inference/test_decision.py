"""The mask of the highest expected Dice, against every mask and every truth of a few voxels."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from segment.data.labels import Labels
from segment.inference.decision import decide, decide_scan, dice_thresholds, expected_dice
from segment.inference.limits import ARGMAX, DICE

LABELS = Labels({"background": 0, "a": 1, "b": 2})
REGIONS = Labels({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2])
ONE = Labels({"background": 0, "a": 1})

voxels = st.lists(st.integers(0, 64).map(lambda part: part / 64), min_size=1, max_size=6)


def by_hand(mask: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected Dice of a mask over all truths; 1 where both are empty."""
    total = 0.0
    for truth in itertools.product((0, 1), repeat=len(mask)):
        truth = np.array(truth)
        size = truth.sum() + mask.sum()
        dice = 2 * (truth * mask).sum() / size if size else 1.0
        total += dice * np.where(truth, probabilities, 1 - probabilities).prod()
    return total


@settings(max_examples=40, deadline=None)
@given(voxels)
def test_no_mask_has_a_higher_expected_dice(given_probabilities):
    probabilities = np.array(given_probabilities)
    values, counts = np.unique(probabilities, return_counts=True)
    expected = expected_dice(values[::-1], counts[::-1])
    masks = [probabilities >= threshold for threshold in (np.inf, *values[::-1])]
    np.testing.assert_allclose(expected, [by_hand(mask * 1, probabilities) for mask in masks], atol=1e-9)
    if len(values) == len(probabilities):  # else some of equally probable voxels might do better than all or none
        every = {mask: by_hand(np.array(mask), probabilities) for mask in itertools.product((0, 1), repeat=len(values))}
        assert expected.max() == pytest.approx(max(every.values()), abs=1e-9)
        chosen = decide_scan(np.stack([1 - probabilities, probabilities])[:, None].astype(np.float16), ONE, DICE)
        assert every[tuple(chosen[0].tolist())] == pytest.approx(max(every.values()), abs=1e-9)


def test_expected_dice_of_many_voxels_is_that_of_drawn_truths():
    generator = np.random.default_rng(0)
    values, counts = np.array([0.95, 0.6, 0.3, 0.02]), np.array([3000, 800, 900, 40_000])
    drawn = np.stack([generator.binomial(counts, values) for _ in range(4000)])
    sizes = np.cumsum(counts)
    dice = 2 * np.cumsum(drawn, axis=1) / (sizes + drawn.sum(axis=1)[:, None])
    np.testing.assert_allclose(expected_dice(values, counts)[1:], dice.mean(axis=0), atol=3e-4)
    assert expected_dice(np.array([1.0, 0.0]), np.array([10**8, 10**9])) == pytest.approx([0, 1, 2 / 12], abs=1e-8)


def test_the_mask_is_larger_than_the_likeliest_one_where_the_structure_is_faint_and_empty_where_it_is_doubtful():
    faint = np.full((1, 400), 0.4, np.float16)
    doubtful = np.array([[0.3] + [0.0] * 399], np.float16)
    for probabilities, found in ((faint, 400), (doubtful, 0)):
        scan = np.stack([1 - probabilities, probabilities])
        assert decide_scan(scan, ONE, ARGMAX).sum() == 0
        assert decide_scan(scan, ONE, DICE).sum() == found


def test_where_probabilities_are_right_every_label_scores_higher_than_by_the_most_probable():
    generator = np.random.default_rng(0)
    logits = np.stack([gaussian_filter(generator.normal(size=(12, 20, 20)), 2.5) * 12 for _ in "nab"])
    logits[0] += 0.6
    scan = np.exp(logits) / np.exp(logits).sum(axis=0)
    truths = (generator.random((40, 1, *scan.shape[1:])) > np.cumsum(scan, axis=0)).sum(axis=1)
    scores = {}
    for decision in (ARGMAX, DICE):
        mask = decide_scan(scan, LABELS, decision)
        drawn = [[2 * (mask[truth == k] == k).sum() / ((mask == k).sum() + (truth == k).sum()) for k in (1, 2)]
                 for truth in truths]  # fmt: skip
        scores[decision] = np.mean(drawn, axis=0)
    assert (scores[DICE] > scores[ARGMAX] + 0.02).all()


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
def test_each_structure_has_a_threshold_of_its_own(labels, monkeypatch):
    generator = np.random.default_rng(1)
    scores = torch.from_numpy(generator.normal(size=(3, 6, 9, 8)) * 2)
    scan = scores.softmax(dim=0).numpy() if labels is LABELS else scores[1:].sigmoid().numpy()
    torch.testing.assert_close(
        torch.from_numpy(decide_scan(scan, labels, ARGMAX)), decide(torch.from_numpy(scan).float(), labels)
    )
    monkeypatch.setattr("segment.inference.decision._VOXELS_AT_ONCE", 150)  # planes one by one
    found, thresholds = decide_scan(scan, labels, DICE), dice_thresholds(scan, labels)
    assert (thresholds < 0.5).all()
    halves = scan.astype(np.float16)[-2:]
    wanted = halves >= thresholds[:, None, None, None]
    if labels is REGIONS:
        expected = np.where(wanted[1], 2, wanted[0])
    else:
        expected = np.where(wanted.any(axis=0), 1 + np.where(wanted, halves, -1).argmax(axis=0), 0)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {0, 1, 2}
