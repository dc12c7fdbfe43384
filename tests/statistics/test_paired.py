"""The statistics of pairs, against scipy and by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kendalltau, wilcoxon

from segment.statistics.paired import (
    compare_pairs,
    holm,
    kendall_tau,
    method_ranks,
    paired_differences,
    rank_biserial,
    signed_rank_test,
)


def samples(n: int, kind: str) -> np.ndarray:
    """(n, 5) differences."""
    generator = np.random.default_rng(n)
    values = generator.normal(0.3, 1, (n, 5))
    if kind == "ties":
        values = np.round(values, 1)
    if kind == "zeros":
        values[generator.random(values.shape) < 0.2] = 0
    if kind == "missing":
        values[generator.random(values.shape) < 0.3] = np.nan
    return values


def scipys_p(sample: np.ndarray) -> float:
    sample = sample[np.isfinite(sample)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return wilcoxon(sample).pvalue if sample.any() else float("nan") if not len(sample) else 1.0


@pytest.mark.parametrize("kind", ["plain", "ties", "zeros", "missing"])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 10, 14, 30, 50, 51, 90])
def test_wilcoxon_of_many_samples_equals_scipys(n, kind):
    values = samples(n, kind)
    np.testing.assert_allclose(signed_rank_test(values), [scipys_p(column) for column in values.T], rtol=1e-12)


def test_p_is_1_without_differences_and_undefined_without_samples():
    values = np.stack([np.zeros(9), np.full(9, np.nan)], axis=1)
    np.testing.assert_array_equal(signed_rank_test(values), [1, np.nan])
    np.testing.assert_array_equal(rank_biserial(values), [np.nan, np.nan])


def test_rank_biserial_is_favourable_minus_unfavourable_share_of_ranks():
    # Ranks of |d|: 0.1 -> 1, 0.2 -> 2.5, -0.2 -> 2.5, 0.4 -> 4; the zero is dropped. (7.5 - 2.5) / 10
    values = np.array([[0.1], [0.2], [-0.2], [0.4], [0.0]])
    assert rank_biserial(values)[0] == pytest.approx(0.5)
    assert rank_biserial(-values)[0] == pytest.approx(-0.5)
    assert rank_biserial(np.abs(values))[0] == 1


def test_holm_equals_manual_calculation():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, never falling.
    np.testing.assert_allclose(holm(np.array([[0.03, 0.01], [0.04, 0.02]])), [[0.06, 0.04], [0.06, 0.06]])
    np.testing.assert_allclose(holm(np.array([0.5, np.nan, 0.9])), [1, np.nan, 1])


@given(hnp.arrays(float, st.integers(1, 12), elements=st.floats(0, 1)))
@settings(max_examples=60, deadline=None)
def test_holm_rejects_the_same_hypotheses_as_the_step_down_procedure(p):
    corrected, rejected = holm(p), set()
    for step, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (len(p) - step) >= 0.05:
            break
        rejected.add(index)
    assert set(np.flatnonzero(corrected < 0.05)) == rejected


def test_false_positive_loses_the_scan_and_both_empty_is_ignored():
    # Scans: both score; the second invents (0 against nothing); neither has it.
    values = np.array([[[0.8, 0.6], [0.7, 0.6]], [[np.nan, 0.9], [0.0, 0.9]], [[np.nan, 0.5], [np.nan, 0.6]]])
    differences, filled = paired_differences(values, np.array([0]), np.array([1]), perfect=1.0)
    np.testing.assert_allclose(differences[:, 0, 1], [0.1, 1.0, np.nan])
    np.testing.assert_allclose(differences[:, 0, 0], [0.05, 0.5, -0.1])  # mean over the labels that are scored
    assert filled[:, 0].tolist() == [[False, False, False], [True, True, False], [False, False, False]]
    found = compare_pairs(values, np.array([0]), np.array([1]), 1.0, True)
    assert found.won[0].tolist() == [2, 2, 0]
    assert found.tied[0].tolist() == [0, 0, 2]
    assert found.lost[0].tolist() == [1, 0, 1]
    assert found.unpaired[0].tolist() == [1, 1, 0]


def test_smaller_distances_win_and_an_empty_structure_has_distance_0():
    values = np.array([[[2.0], [3.0]], [[np.nan], [50.0]], [[1.0], [1.0]]])
    found = compare_pairs(values, np.array([0]), np.array([1]), 0.0, False)
    assert [table[0, 1] for table in (found.won, found.tied, found.lost)] == [2, 1, 0]
    assert found.effect[0, 1] == 1
    assert method_ranks(np.array([2.0, 1.0, np.nan, 1.0]), False).tolist() == [3, 1, 4, 1]
    assert method_ranks(np.array([2.0, 1.0, np.nan, 1.0]), True).tolist() == [1, 2, 4, 2]


def test_kendall_tau_equals_scipys_in_every_resample():
    generator = np.random.default_rng(0)
    ranks = method_ranks(generator.integers(0, 4, 6).astype(float), True)
    drawn = method_ranks(generator.integers(0, 4, (6, 50)).astype(float), True)
    expected = np.mean([kendalltau(ranks, column).statistic for column in drawn.T])
    assert kendall_tau(ranks, drawn) == pytest.approx(expected)
