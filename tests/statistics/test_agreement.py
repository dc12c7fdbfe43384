"""Limits of agreement and intraclass correlations, against published numbers and numbers by hand."""

import numpy as np
import pytest

from segment.statistics.agreement import intraclass_correlations, limits_of_agreement

JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
"""The example of Shrout and Fleiss 1979, table 2: six subjects, four judges."""


def test_correlations_are_those_of_shrout_and_fleiss_with_the_intervals_of_the_package_psych():
    agreement, consistency = intraclass_correlations(JUDGES)
    assert agreement.value == pytest.approx(0.29, abs=0.005)
    assert consistency.value == pytest.approx(0.71, abs=0.005)
    assert agreement.interval == pytest.approx((0.019, 0.761), abs=0.001)
    assert consistency.interval == pytest.approx((0.342, 0.946), abs=0.001)


def test_a_rater_who_measures_more_agrees_less_but_is_consistent():
    truth = np.array([1.0, 2.0, 4.0, 7.0, 9.0])
    agreement, consistency = intraclass_correlations(np.column_stack([truth, truth + 3]))
    assert consistency.value == pytest.approx(1)
    assert agreement.value == pytest.approx(11.3 / (11.3 + 4.5))  # variance of the subjects, and of the raters
    assert agreement.interval[0] < agreement.value < agreement.interval[1] <= 1


def test_intervals_hold_the_true_correlation_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(400):
        subjects, raters = generator.normal(0, 2, (20, 1)), generator.normal(0, 0.5, (1, 2))
        found = intraclass_correlations(subjects + raters + generator.normal(0, 1, (20, 2)))
        truth = 4 / (4 + 0.25 + 1), 4 / (4 + 1)
        held += [one.interval[0] <= true <= one.interval[1] for one, true in zip(found, truth, strict=True)]
    assert held[1] / 400 == pytest.approx(0.95, abs=0.03)
    assert held[0] / 400 > 0.9  # Satterthwaite's degrees of freedom of two raters are an approximation


def test_nothing_varies_or_too_few_subjects():
    agreement, consistency = intraclass_correlations(np.ones((4, 2)))
    assert np.isnan([agreement.value, consistency.value]).all()
    assert intraclass_correlations(np.ones((2, 2))) is None
    assert limits_of_agreement(np.array([1.0, 2.0])) is None


def test_limits_and_their_intervals_by_hand():
    found = limits_of_agreement(np.array([-2.0, 0.0, 2.0, 4.0]))
    sd, t = np.sqrt(20 / 3), 3.182446  # Student's t of 3 degrees of freedom
    assert found.bias == 1
    assert (found.low, found.high) == pytest.approx((1 - 1.959964 * sd, 1 + 1.959964 * sd))
    assert found.bias_interval == pytest.approx((1 - t * sd / 2, 1 + t * sd / 2))
    half = t * sd * np.sqrt(1 / 4 + 1.959964**2 / 6)
    assert found.low_interval == pytest.approx((found.low - half, found.low + half))
    assert found.high_interval == pytest.approx((found.high - half, found.high + half))
