"""Means of subgroups of the scans and the differences between them."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from segment.statistics.bootstrap import bootstrap_interval
from segment.statistics.subgroups import subgroup_differences, subgroups

GENERATOR = np.random.default_rng(3)
SCORES = np.concatenate([GENERATOR.normal(0.8, 0.05, 12), GENERATOR.normal(0.72, 0.05, 9)])[:, None]
NAMES = ["b"] * 12 + ["a"] * 9


def test_every_subgroup_is_summarised_like_a_run():
    first, second = subgroups(SCORES, NAMES)
    assert (first.name, first.scans, second.name, second.scans) == ("a", 9, "b", 12)
    assert first.mean == pytest.approx(SCORES[12:].mean())
    assert first.interval == bootstrap_interval(SCORES[12:])


def test_the_difference_and_its_p_are_those_of_scipys_permutation_test():
    (found,) = subgroup_differences(SCORES, NAMES, resamples=20_000)
    assert (found.first, found.second) == ("a", "b")
    assert found.difference == pytest.approx(SCORES[12:].mean() - SCORES[:12].mean())
    assert found.interval[0] < found.difference < found.interval[1] < 0
    expected = permutation_test(
        (SCORES[12:, 0], SCORES[:12, 0]), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), n_resamples=20_000
    ).pvalue
    assert found.p == pytest.approx(expected, abs=0.003)
    assert found.p_holm == found.p


def test_p_is_corrected_over_the_pairs_of_subgroups():
    found = subgroup_differences(SCORES, [*NAMES[:15], *["c"] * 6], resamples=2000)
    assert [(row.first, row.second) for row in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert min(row.p_holm for row in found) == pytest.approx(3 * min(row.p for row in found))
    assert found[0].interval is None  # of the subgroup a only three scans are left


def test_scans_of_one_patient_count_once():
    repeated = np.repeat(SCORES, 4, axis=0)
    names, units = np.repeat(NAMES, 4).tolist(), np.repeat(np.arange(21).astype(str), 4).tolist()
    (alone,), (whole,) = (
        subgroup_differences(repeated, names, resamples=2000, units=units),
        subgroup_differences(SCORES, NAMES, resamples=2000),
    )
    assert alone.difference == pytest.approx(whole.difference)
    assert np.diff(alone.interval) == pytest.approx(np.diff(whole.interval), rel=0.1)
    assert subgroups(repeated, names, units=units)[0].scans == 36


def test_labels_that_one_subgroup_lacks_do_not_enter_the_difference():
    scores = np.column_stack([SCORES[:, 0], np.where(np.array(NAMES) == "b", 0.1, np.nan)])
    (found,) = subgroup_differences(scores, NAMES, resamples=500)
    assert found.difference == pytest.approx(SCORES[12:].mean() - SCORES[:12].mean())
    assert subgroup_differences(scores[:, 1:], NAMES, resamples=500) == []
