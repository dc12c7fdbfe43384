"""Expected Dice of any mask, against every truth of a few voxels and against drawn truths."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.data.labels import Labels
from segment.inference.quality import expected_mask_dice, expected_scan_dice

voxels = st.lists(st.tuples(st.integers(0, 64).map(lambda part: part / 64), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(voxels)
def test_mean_over_all_truths(given_voxels):
    probabilities, mask = (np.array(one) for one in zip(*given_voxels, strict=True))
    total = 0.0
    for truth in itertools.product((0, 1), repeat=len(mask)):
        truth = np.array(truth)
        size = truth.sum() + mask.sum()
        dice = 2 * (truth * mask).sum() / size if size else 1.0
        total += dice * np.where(truth, probabilities, 1 - probabilities).prod()
    ones = np.ones(len(mask), int)
    assert expected_mask_dice(probabilities, ones * ~mask, ones * mask) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("labels", [
    Labels({"background": 0, "a": 1, "b": 2}), Labels({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2])
])  # fmt: skip
def test_structures_of_a_scan_are_near_those_of_drawn_truths(labels):
    generator = np.random.default_rng(0)
    scan = generator.dirichlet([4, 1, 1], (6, 9, 10)).astype(np.float16)
    scan = np.moveaxis(scan, -1, 0)
    outputs = np.stack([scan[1] + scan[2], scan[2]]) if labels.regions else scan
    mask = outputs[1:].argmax(0) + 1 if not labels.regions else generator.integers(0, 3, scan.shape[1:])
    found = expected_scan_dice(outputs, mask.astype(np.uint8), labels)
    for index, (name, classes) in enumerate(labels.structures.items()):
        probability = outputs[index if labels.regions else classes[0]].astype(float)
        inside = np.isin(mask, classes)
        truths = generator.random((3000, *inside.shape)) < probability
        sizes = truths.sum(axis=(1, 2, 3))
        dice = 2 * (truths & inside).sum(axis=(1, 2, 3)) / (sizes + inside.sum())
        assert found[name] == pytest.approx(dice.mean(), abs=3e-3)
