"""Boundary IoU, clDice and Betti numbers beside plain computations, and on shapes of which the answer is known."""

import itertools

import numpy as np
import pytest
from mask_pairs import mask_pairs
from scipy.spatial.distance import cdist
from skimage.measure import label
from skimage.morphology import skeletonize

from segment.metrics.boundary import boundary
from segment.metrics.boundary_iou import BoundaryIoU
from segment.metrics.cl_dice import ClDice
from segment.metrics.topology import BettiError, betti_numbers


def rim(mask: np.ndarray, spacing: tuple[float, ...], distance: float) -> np.ndarray:
    """By all distances between voxels inside and outside."""
    padded = np.pad(mask, 1)
    inside, outside = np.argwhere(padded), np.argwhere(~padded)
    near = cdist(inside * spacing, outside * spacing).min(axis=1) <= distance
    found = np.zeros_like(padded)
    found[tuple(inside[near].T)] = True
    return found[(slice(1, -1),) * mask.ndim] | boundary(mask)


def test_boundary_iou_equals_all_distances():
    scores = []
    for pair in itertools.islice((pair for pair in mask_pairs(60) if pair.prediction.size < 700), 20):
        first, second = (rim(mask, pair.spacing, 1.3) for mask in (pair.prediction, pair.reference))
        expected = (first & second).sum() / (first | second).sum()
        scores.append(BoundaryIoU(1.3).of_pair(pair.structure()))
        assert scores[-1] == pytest.approx(expected)
    assert len(set(scores)) > 5


def test_a_wide_rim_is_the_whole_mask():
    pair = next(mask_pairs(1))
    whole = (pair.prediction & pair.reference).sum() / (pair.prediction | pair.reference).sum()
    assert BoundaryIoU(1e6).of_pair(pair.structure()) == pytest.approx(whole)
    with pytest.raises(ValueError, match="distance=-1 mm"):
        BoundaryIoU(-1)


def test_cldice_of_tubes():
    tube = np.zeros((7, 7, 40), bool)
    tube[2:5, 2:5] = True
    thin, half, aside = np.zeros_like(tube), tube.copy(), np.zeros_like(tube)
    thin[3, 3] = True
    half[..., 20:] = False
    aside[0, 0] = True
    assert ClDice().compute(thin, tube, (1, 1, 1)) == 1
    precision, sensitivity = 1.0, skeletonize(tube)[..., :20].sum() / skeletonize(tube).sum()
    expected = 2 * precision * sensitivity / (precision + sensitivity)
    assert ClDice().compute(half, tube, (1, 1, 1)) == pytest.approx(expected)
    assert 0.6 < expected < 0.72
    assert ClDice().compute(aside, tube, (1, 1, 1)) == 0


def test_betti_numbers_of_known_shapes():
    ring = np.ones((5, 5), bool)
    ring[1, 1] = ring[3, 3] = False
    assert betti_numbers(ring) == (1, 2)
    assert betti_numbers(np.eye(3, dtype=bool)) == (1, 0)
    torus = np.ones((3, 5, 5), bool)
    torus[:, 2, 2] = False
    assert betti_numbers(torus) == (1, 1, 0)
    shell = np.ones((5, 5, 5), bool)
    shell[2, 2, 2] = False
    assert betti_numbers(shell) == (1, 0, 1)
    both = np.zeros((5, 12, 6), bool)
    both[:3, :5, :5], both[:, 6:11, :5] = torus, shell
    assert betti_numbers(both) == (2, 1, 1)
    assert betti_numbers(np.zeros((2, 2, 2), bool)) == (0, 0, 0)
    assert BettiError().compute(both, np.pad(torus, ((0, 2), (0, 7), (0, 1))), (1, 1, 1)) == 2


def euler(mask: np.ndarray) -> int:
    """Vertices - edges + faces - volumes of the union of closed voxels, each counted once."""
    cells = set()
    for voxel in np.argwhere(mask):
        cells |= set(itertools.product(*[(2 * side, 2 * side + 1, 2 * side + 2) for side in voxel.tolist()]))
    return sum((-1) ** sum(side % 2 for side in cell) for cell in cells)


def test_betti_numbers_add_up_to_the_cells_of_the_voxels():
    for pair in itertools.islice((pair for pair in mask_pairs(60) if pair.prediction.size < 900), 20):
        mask = pair.prediction
        numbers = betti_numbers(mask)
        assert sum(number * (-1) ** order for order, number in enumerate(numbers)) == euler(mask)
        assert numbers[0] == label(mask, connectivity=mask.ndim).max()
        assert min(numbers) >= 0
