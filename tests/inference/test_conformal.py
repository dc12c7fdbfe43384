"""Conformal masks of simulated scans: the promised risk holds on scans that nothing was chosen on."""

import numpy as np
import pytest

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.conformal import (
    EDGES,
    Missed,
    conformal_masks,
    conformal_thresholds,
    edge_counts,
    missed_shares,
)

ONE = Labels({"background": 0, "a": 1})
VOXELS = 400


def scans(generator: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (scan, voxel) of a network that is too sure, as unsure as each scan wants, and the truth."""
    truth = generator.random((number, VOXELS)) < 0.2
    strength = generator.gamma(2, 1, (number, 1))
    logits = strength * (np.where(truth, 1.0, -2.0) + generator.normal(0, 1.5, truth.shape))
    return (1 / (1 + np.exp(-3 * logits))).astype(np.float32), truth


def inside_counts(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.stack([edge_counts(*scan)[1] for scan in zip(probabilities, truth, strict=True)])


@pytest.mark.parametrize("risk", [0.1, 0.3])
def test_new_scans_are_missed_no_more_than_promised_and_little_less(risk):
    generator = np.random.default_rng(3)
    held_out = []
    for _ in range(60):  # the promise is a mean over calibration scans too
        known = missed_shares(inside_counts(*scans(generator, 30)))
        probabilities, truth = scans(generator, 30)
        (limit,) = conformal_thresholds({"a": known}, risk, ONE)
        volumes = np.stack([1 - probabilities, probabilities])
        masks = conformal_masks(volumes, np.array([limit]), ONE)[0]
        held_out.append(1 - (masks & truth).sum(axis=1) / truth.sum(axis=1))
    error = np.std(held_out) / np.sqrt(np.size(held_out))
    assert np.mean(held_out) <= risk + 2 * error
    assert np.mean(held_out) > risk - 0.06  # no mask of everything


def test_what_too_few_or_no_scans_cannot_promise_is_said():
    known = missed_shares(np.ones((4, len(EDGES)), np.int64))
    assert known.scans == 4
    assert known.threshold(0.19) is None
    assert known.threshold(0.2) == 0  # all voxels
    with pytest.raises(UserError, match=r"conformal=0.1: 4 validation scans with a can promise no risk below 0.2\."):
        conformal_thresholds({"a": known}, 0.1, ONE)
    with pytest.raises(UserError, match="the model was not calibrated"):
        conformal_thresholds({}, 0.1, ONE)
    assert missed_shares(np.zeros((3, len(EDGES)), np.int64)) == Missed(0, (0.0,) * len(EDGES))


def test_voxels_are_counted_by_the_last_edge_that_they_reach():
    values = np.array([0, EDGES[5], np.nextafter(EDGES[5], np.float32(0)), 1], np.float32)
    counts = edge_counts(values, np.array([True, False, True, True]))
    assert counts[0].nonzero()[0].tolist() == [5]
    assert counts[1].nonzero()[0].tolist() == [0, 4, len(EDGES) - 1]
