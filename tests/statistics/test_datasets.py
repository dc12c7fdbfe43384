"""Friedman's test and Nemenyi's critical difference, against SciPy and the example of Demšar (2006)."""

import numpy as np
import pytest
from scipy.stats import f, friedmanchisquare

from segment.statistics.datasets import cliques, critical_difference, dataset_ranks, friedman, two_methods

# Demšar 2006, table 6: area under the curve of four decision trees (C4.5, +m, +cf, +m+cf) on 14 data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]
).T  # fmt: skip


def test_ranks_and_critical_difference_equal_demsars_example():
    ranks = dataset_ranks(DEMSAR, higher_is_better=True)
    assert ranks.mean(axis=1) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=1e-3)
    # He gives 3.69 with 3 and 39 degrees of freedom, without the correction for ties: 2.85 is the critical value.
    assert friedman(ranks) < 0.02
    assert critical_difference(4, 14, 0.95) == pytest.approx(1.25, abs=0.005)
    # His critical values for five methods are 2.728 at .05 and 2.459 at .10.
    factor = np.sqrt(5 * 6 / (6 * 10))
    assert critical_difference(5, 10, 0.95) / factor == pytest.approx(2.728, abs=1e-3)
    assert critical_difference(5, 10, 0.9) / factor == pytest.approx(2.459, abs=1e-3)


def test_friedman_follows_from_the_chi_squared_of_scipy():
    scores = np.random.default_rng(0).integers(0, 4, (4, 12)).astype(float)  # with ties
    chi = friedmanchisquare(*scores).statistic
    value = 11 * chi / (12 * 3 - chi)
    assert friedman(dataset_ranks(scores, True)) == pytest.approx(f.sf(value, 3, 33))
    assert friedman(dataset_ranks(-scores, False)) == pytest.approx(f.sf(value, 3, 33))


def test_friedman_is_1_for_equal_methods_and_0_for_identical_rankings():
    assert friedman(dataset_ranks(np.ones((3, 5)), True)) == 1
    assert friedman(dataset_ranks(np.arange(15.0).reshape(3, 5), True)) == 0
    assert two_methods(np.ones(5), np.ones(5)) == 1
    assert two_methods(np.arange(6.0), np.arange(6.0) - 0.1) == pytest.approx(2 / 2**6)


def test_friedman_rejects_equal_methods_in_five_percent_of_comparisons():
    generator = np.random.default_rng(1)
    found = [friedman(dataset_ranks(generator.normal(size=(4, 8)), True)) < 0.05 for _ in range(1000)]
    assert 0.03 < np.mean(found) < 0.07


@pytest.mark.parametrize(
    ("ranks", "groups"),
    [
        ([1.0, 1.5, 3.0, 3.2], [(0, 1), (2, 3)]),
        ([1.0, 1.8, 2.5, 4.0], [(0, 1), (1, 2)]),
        ([1.0, 3.0, 5.0], []),
        ([2.0, 2.0, 2.0], [(0, 2)]),
    ],
)
def test_cliques_are_maximal_groups_without_a_significant_difference(ranks, groups):
    assert cliques(np.array(ranks), 1.0) == groups
