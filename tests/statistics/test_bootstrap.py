import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import bootstrap

from segment.statistics.bootstrap import FEWEST_SCANS, bootstrap_interval, bootstrap_intervals, mean_of_means

SCORES = st.floats(0, 1) | st.just(np.nan)


@given(hnp.arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=SCORES))
@settings(max_examples=60, deadline=None)
def test_mean_of_means_equals_manual_calculation(table):
    columns = [[value for value in column if value == value] for column in table.T.tolist()]
    means = [sum(column) / len(column) for column in columns if column]
    expected = sum(means) / len(means) if means else np.nan
    assert mean_of_means(table) == pytest.approx(expected, nan_ok=True)


def test_labels_have_equal_weight_regardless_of_frequency():
    table = np.array([[1.0, 0.0], [1.0, np.nan], [1.0, np.nan]])
    assert mean_of_means(table) == 0.5


@pytest.mark.parametrize("scans", [8, 30, 200])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_interval_of_one_label_equals_scipys(scans, level):
    values = np.random.default_rng(scans).beta(9, 1.2, scans)
    theirs = bootstrap((values,), np.mean, confidence_level=level, n_resamples=40_000, method="BCa", rng=1)
    ours = bootstrap_interval(values, level=level, resamples=40_000)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.03 * width)
    # The two tails of a lopsided sample are not mirror images, as plain percentiles of a normal would be.
    assert values.mean() - ours[0] > ours[1] - values.mean()


def test_foreground_interval_equals_scipys_bootstrap_over_scans():
    generator = np.random.default_rng(3)
    table = generator.beta(9, 1.2, (25, 1)) * generator.uniform(0.8, 1, (25, 3))
    table[generator.random(table.shape) < 0.3] = np.nan
    table = table[np.isfinite(table).any(axis=1)]

    def statistic(rows, axis):
        return np.nanmean(np.nanmean(table[rows.astype(int)], axis=axis - 1 if axis < 0 else axis), axis=-1)

    theirs = bootstrap((np.arange(len(table)),), statistic, n_resamples=20_000, method="BCa", rng=1)
    low, high = theirs.confidence_interval
    np.testing.assert_allclose(bootstrap_interval(table, resamples=20_000), (low, high), atol=0.05 * (high - low))


def test_bootstrap_resamples_scans_rather_than_scores():
    # Two labels that always fall together: drawing scores one by one would shrink the interval by the root of two.
    scores = np.random.default_rng(0).random(40)
    one, both = bootstrap_interval(scores), bootstrap_interval(np.stack([scores, scores], axis=1))
    np.testing.assert_allclose(one, both)


def test_no_foreground_interval_for_a_label_in_two_of_thirty_scans():
    table = np.full((30, 2), np.nan)
    table[:, 0] = 0.95
    table[:2, 1] = 0.3, 0.29
    assert mean_of_means(table) == pytest.approx(0.6225)
    assert bootstrap_interval(table) is None
    assert bootstrap_interval(table[:, 1]) == pytest.approx((0.29, 0.3))
    table[:6, 1] = 0.3, 0.29, 0.3, 0.31, 0.3, 0.32
    low, high = bootstrap_interval(table)
    assert 0.61 < low < mean_of_means(table) < high < 0.64


def test_unscored_scans_are_left_out():
    scores = np.random.default_rng(0).random(12)
    assert bootstrap_interval(np.append(scores, [np.nan] * 5)) == bootstrap_interval(scores)


@pytest.mark.parametrize("values", [[], [0.7], [0.7, np.nan], [np.nan, np.nan]])
def test_fewer_than_two_scans_have_no_interval(values):
    assert bootstrap_interval(np.array(values)) is None


@given(hnp.arrays(float, st.tuples(st.integers(2, 8), st.integers(1, 3)), elements=SCORES))
@settings(max_examples=60, deadline=None)
def test_interval_is_ordered_finite_and_within_the_scores(table):
    interval = bootstrap_interval(table, resamples=200)
    scans, scored = np.isfinite(table).any(axis=1).sum(), np.isfinite(table).sum(axis=0)
    if scans < 2 or ((scored > 0) & (scored < min(FEWEST_SCANS, scans))).any():
        assert interval is None
    else:
        low, high = interval
        assert np.nanmin(table) - 1e-9 <= low <= high <= np.nanmax(table) + 1e-9


def test_equal_scores_give_an_empty_interval_and_the_seed_determines_it():
    assert bootstrap_interval(np.full(9, 0.3)) == pytest.approx((0.3, 0.3))
    scores = np.random.default_rng(0).random(20)
    assert bootstrap_interval(scores) == bootstrap_interval(scores)
    assert bootstrap_interval(scores, seed=1) != bootstrap_interval(scores, seed=2)


def test_intervals_of_many_tables_are_those_of_each_alone():
    random = np.random.default_rng(0)
    values = random.normal(0.8, 0.1, (60, 4))
    values[random.random((60, 4)) < [0, 0.3, 0.9, 1.0]] = np.nan
    tables = [values, *(values[:, [label]] for label in range(4)), 2 * values[:, :1], values[:1]]
    together = bootstrap_intervals(tables, resamples=500)
    assert together[-1] is None
    for found, table in zip(together, tables, strict=True):
        assert found == pytest.approx(bootstrap_interval(table, resamples=500))


def test_a_label_of_many_of_the_scans_has_the_interval_of_its_own_scores():
    scores = np.random.default_rng(1).beta(8, 2, 600)
    among = np.full(1000, np.nan)
    among[::5], among[1::5], among[2::5] = np.split(scores, 3)
    alone, found = (bootstrap_interval(values) for values in (scores, among))
    width = alone[1] - alone[0]
    assert found == pytest.approx(alone, abs=0.05 * width)
