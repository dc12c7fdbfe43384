import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.augment.counter import field_generator, generator

numbers = st.integers(0, 2**40)


@settings(max_examples=30, deadline=None)
@given(numbers, numbers, st.sampled_from(["augment", "patch", "noise"]))
def test_numbers_depend_only_on_the_three_arguments(seed, sample, purpose):
    first = generator(seed, sample, purpose).random(5)
    generator(seed, sample + 1, purpose).random(100)
    np.testing.assert_array_equal(generator(seed, sample, purpose).random(5), first)


@pytest.mark.parametrize("other", [(1, 2, "noise"), (1, 3, "patch"), (2, 2, "patch"), (2, 1, "patch")])
def test_seed_sample_and_purpose_are_independent(other):
    first, second = generator(1, 2, "patch").random(20_000), generator(*other).random(20_000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(20_000)
    # Nor does one run into the other further on, as streams of one generator can.
    assert not np.intersect1d(first, second).size


def test_consecutive_samples_are_uniform_together():
    first = np.array([generator(0, sample, "patch").random() for sample in range(2_000)])
    assert np.histogram(first, 10, (0, 1))[0] == pytest.approx(200, abs=4 * np.sqrt(200 * 0.9))
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 4 / np.sqrt(2_000)


def test_fields_depend_only_on_seed_sample_and_purpose():
    cpu = torch.device("cpu")
    fields = [
        torch.randn(50, generator=field_generator(*key, cpu))
        for key in ((1, 2, "a"), (1, 2, "a"), (1, 2, "b"), (1, 3, "a"))
    ]
    assert torch.equal(fields[0], fields[1])
    assert not torch.equal(fields[0], fields[2])
    assert not torch.equal(fields[0], fields[3])
