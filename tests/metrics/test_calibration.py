"""Calibration from counts, against scikit-learn and numbers from the probabilities themselves."""

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss

from segment.metrics.calibration import BINS, calibration
from segment.metrics.precision_recall import precision_recall, threshold_counts
from segment.runs.precision_recall import counts_of

GENERATOR = np.random.default_rng(0)
SHAPE = (20, 30, 40)


def drawn(sharper: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, the truth that is drawn from their power, and the counts."""
    probability = GENERATOR.beta(0.5, 0.8, SHAPE).astype(np.float32)
    truth = GENERATOR.random(SHAPE) < probability**sharper
    both = torch.from_numpy(np.stack([1 - probability, probability]))
    counts = threshold_counts(both, torch.from_numpy(truth.astype(np.uint8)), {"a": (1,)}).numpy()[0]
    return probability.ravel(), truth.ravel(), counts


def test_scores_are_those_of_the_probabilities():
    probability, truth, counts = drawn(2.0)
    found = calibration(counts)
    assert found.brier == pytest.approx(brier_score_loss(truth, probability), abs=0.004)
    assert found.nll == pytest.approx(log_loss(truth, probability.clip(0.004, 0.996)), abs=0.01)
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    expected = sum(abs((truth[place == b] - probability[place == b]).sum()) for b in range(BINS)) / len(truth)
    assert found.ece == pytest.approx(expected, abs=0.004)
    assert found.ece > 0.05
    for b in range(BINS):
        assert found.observed[b] == pytest.approx(truth[place == b].mean(), abs=0.03)
        assert found.probability[b] == pytest.approx(probability[place == b].mean(), abs=0.005)
    assert found.voxels.sum() == len(truth)


def test_probabilities_that_hold_have_hardly_an_error_and_no_voxels_none():
    assert calibration(drawn()[2]).ece < 0.01
    assert np.isnan(calibration(np.zeros((2, 127))).ece)


def test_the_counts_are_those_of_the_curve():
    counts = drawn()[2]
    np.testing.assert_array_equal(counts_of(precision_recall(counts)), counts)
