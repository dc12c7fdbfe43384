"""Number of scans for a paired comparison, against the published tables of the paired t test."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from segment.statistics.sample_size import MOST, paired_sample_size


@pytest.mark.parametrize(("effect", "scans"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_sizes_are_those_of_gpower(effect, scans):
    assert paired_sample_size(effect, 1.0) == scans
    assert paired_sample_size(-0.01 * effect, 0.01) == scans


def test_the_size_has_the_power_and_one_scan_fewer_has_not():
    size = paired_sample_size(0.7, 1.0, level=0.9, power=0.6)
    generator = np.random.default_rng(1)
    powers = [np.mean(ttest_1samp(generator.normal(0.7, 1, (n, 40_000)), 0).pvalue < 0.1) for n in (size, size - 1)]
    assert powers[0] == pytest.approx(0.62, abs=0.03)
    assert powers[0] > 0.595 > powers[1] - 0.02


def test_no_variance_takes_two_scans_and_a_tiny_difference_too_many():
    assert paired_sample_size(0.1, 0.0) == 2
    assert paired_sample_size(1e-5, 1.0) is None
    assert MOST == 1_000_000
