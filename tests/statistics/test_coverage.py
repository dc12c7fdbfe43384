"""Greedy k-centre takes the farthest point each time, and is within twice the best radius."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segment.statistics.coverage import k_centre


def radius(points: np.ndarray, centres: list[int]) -> float:
    return float(np.linalg.norm(points[:, None] - points[centres][None], axis=2).min(axis=1).max())


@given(st.integers(0, 1000), st.integers(1, 3))
def test_the_radius_is_at_most_twice_the_best(seed, count):
    points = np.random.default_rng(seed).normal(size=(8, 2))
    chosen = k_centre(points, [0], range(1, 8), count)
    assert len(set(chosen)) == count
    best = min(radius(points, [0, *some]) for some in itertools.combinations(range(1, 8), count))
    assert radius(points, [0, *chosen]) <= 2 * best + 1e-9


def test_the_farthest_from_what_is_known_comes_first_and_without_any_the_middle():
    points = np.array([[0.0], [1], [5], [9]])
    assert k_centre(points, [0], [1, 2, 3], 2) == [3, 2]
    assert k_centre(points, [], [0, 1, 2, 3], 2) == [2, 0]
    assert k_centre(points, [0], [1], 5) == [1]
