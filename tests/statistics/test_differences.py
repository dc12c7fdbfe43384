"""The tests of a difference: against enumeration and scipy, and how often they claim one that is not there."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import permutation_test, ttest_1samp, ttest_ind

from segment.statistics.differences import (
    Errors,
    at_least,
    by_folds,
    by_groups,
    by_seeds,
    contributions,
    intervals,
    sign_flip_test,
    two_sided,
    within,
)

FILE = Path(__file__).parents[2] / "benchmarks" / "_null.py"


@pytest.fixture(scope="module")
def null():
    """The simulations of benchmarks/comparing.py."""
    spec = importlib.util.spec_from_file_location("simulated_comparisons", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def scores(n: int, seeds: int, pairs: int, labels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.8, 0.05, (n, seeds, pairs, labels))


@pytest.mark.parametrize("n", [6, 12, 30, 60])
def test_sign_flip_p_values_equal_scipys(n):
    values = np.random.default_rng(n).normal(0.25, 1, (n, 4))
    p, least = sign_flip_test(values, 20_000)
    for column, found in zip(values.T, p, strict=True):
        theirs = permutation_test((column,), np.sum, permutation_type="samples", n_resamples=20_000, rng=1).pvalue
        assert found == pytest.approx(theirs, rel=1e-9 if n <= 12 else 0.35)
    np.testing.assert_allclose(least, 2.0 ** (1 - n))


def test_sign_flip_test_handles_extreme_sums_ties_and_zeros():
    p, _ = sign_flip_test(np.random.default_rng(0).normal(1.5, 1, (40, 1)), 1000)
    assert 2.0**-39 <= p[0] < 1e-6
    p, least = sign_flip_test(np.array([[0.1, 0.0, np.nan]] * 4 + [[0.0, 0.0, np.nan]] * 30))
    np.testing.assert_allclose(p, [2 / 2**4, 1, np.nan])
    np.testing.assert_allclose(least[:2], [2 / 2**4, 1])


def test_contributions_sum_to_the_difference_even_with_false_positives():
    one, other = scores(12, 2, 1, 2), scores(12, 3, 1, 2, seed=1)
    one[4:, :, :, 1], other[4:, :, :, 1] = np.nan, np.nan
    other[9, 1, 0, 1] = other[5, :, 0, 1] = 0.0
    groups = np.repeat(np.arange(4), 3)
    found = contributions(one, other, groups)

    def mean(side):
        return np.nanmean(np.nanmean(side[:, :, 0], axis=0), axis=0)

    expected = mean(one) - mean(other)
    np.testing.assert_allclose(found.difference[0], [expected.mean(), *expected])
    np.testing.assert_allclose(found.flips.sum(axis=0)[0], found.difference[0])
    np.testing.assert_allclose(found.influences.sum(axis=0), 0, atol=1e-12)
    assert found.flips.shape == (4, 1, 3)
    turned = contributions(other, one, groups)
    np.testing.assert_allclose(turned.flips, -found.flips)


def test_standard_errors_equal_manual_calculation():
    one, other = scores(40, 1, 3), scores(40, 1, 3, seed=1)
    found = contributions(one, other, np.arange(40))
    differences = (one - other)[:, 0, :, 0]
    theirs = ttest_1samp(differences, 0)
    errors = by_groups(found)
    np.testing.assert_allclose(two_sided(found.difference, errors)[:, 1], theirs.pvalue)
    expected = theirs.confidence_interval(0.95)
    np.testing.assert_allclose(intervals(found.difference, errors, 0.95)[:, 1].T, [expected.low, expected.high])
    # Folds: the variance between their means, times 1/k + test/train instead of 1/k.
    errors = by_folds(found, np.repeat(np.arange(5), 8), 0.25)
    folds = differences.reshape(5, 8, 3).mean(axis=1)
    np.testing.assert_allclose(errors.error[:, 1], np.sqrt((1 / 5 + 1 / 4) * folds.var(axis=0, ddof=1)))
    assert (errors.freedom == 4).all()


def test_by_seeds_equals_welchs_test_if_only_training_varies():
    shifts = np.random.default_rng(0).normal(0, 0.01, 7)
    base = scores(2000, 1, 1)
    one, other = (base + part[None, :, None, None] for part in (shifts[:4], shifts[4:]))
    found = contributions(one, other, np.arange(2000))
    p = two_sided(found.difference, by_seeds(found))[0, 0]
    assert p == pytest.approx(ttest_ind(shifts[:4], shifts[4:], equal_var=False).pvalue, rel=0.01)


def test_equivalence_equals_two_one_sided_tests():
    values = np.random.default_rng(1).normal(0.001, 0.01, 50)
    errors = Errors(np.array(values.std(ddof=1) / np.sqrt(50)), np.array(49.0))
    lower = ttest_1samp(values, -0.005, alternative="greater").pvalue
    upper = ttest_1samp(values, 0.005, alternative="less").pvalue
    difference = np.array(values.mean())
    assert at_least(difference, errors, 0.005) == pytest.approx(lower)
    assert within(difference, errors, 0.005) == pytest.approx(max(lower, upper))
    assert within(np.array(0.0), Errors(np.array(0.0), np.array(4.0)), 0.005) == 0


@pytest.mark.parametrize(
    "world",
    [
        {"scans": 52, "seeds": 1},
        {"scans": 52, "seeds": 2, "training": 0.004},
        {"scans": 260, "seeds": 2, "training": 0.004},
        {"scans": 52, "seeds": 3, "training": 0.004},
        {"scans": 260, "seeds": 2, "training": 0.004, "methods": 5},
        {"scans": 52, "seeds": 1, "training": 0.004, "folds": 5},
        {"scans": 52, "seeds": 3, "training": 0.002, "structures": "invented"},
        {"scans": 52, "seeds": 3, "training": 0.002, "structures": "rare"},
        {"scans": 10, "seeds": 5, "training": 0.002},
    ],
    ids=str,
)
def test_at_most_seven_percent_of_equal_methods_differ_significantly(null, world):
    share, about_methods = null.claims(null.World(**world), 500, flips=500)
    assert share <= 0.07 + 2 * np.sqrt(0.07 * 0.93 / 500)
    assert about_methods == (world["seeds"] > 1 or world.get("folds", 1) > 1)


def test_one_seed_mistakes_training_variance_for_a_difference(null):
    share, about_methods = null.claims(null.World(52, 1, training=0.004), 500, flips=500)
    assert share > 0.2
    assert not about_methods


def test_three_seeds_detect_a_difference_of_one_standard_deviation(null):
    for training in (0.0, 0.004):
        assert null.claims(null.World(52, 3, training=training, effect=null.SCAN_SD), 300, flips=500)[0] > 0.9
