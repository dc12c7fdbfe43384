import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.inference.temperature import fit_temperature, likelihood, tempered


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.05, 20), st.booleans())
def test_decisions_stay_and_a_single_pass_has_the_softmax_of_divided_logits(seed, temperature, regions):
    logits = 2 * torch.randn(3, 50, generator=torch.Generator().manual_seed(seed))
    convert = torch.sigmoid if regions else lambda values: values.softmax(0)
    before, after = convert(logits), tempered(convert(logits), temperature, regions)
    torch.testing.assert_close(after, convert(logits / temperature), atol=1e-4, rtol=1e-3)
    if regions:
        clear = (before - 0.5).abs() > 1e-5
        assert torch.equal((before > 0.5)[clear], (after > 0.5)[clear])
    else:
        top = before.topk(2, dim=0).values
        clear = top[0] - top[1] > 1e-4
        assert torch.equal(before.argmax(0)[clear], after.argmax(0)[clear])


@pytest.mark.parametrize("regions", [False, True])
def test_the_temperature_that_made_probabilities_too_sure_is_found(regions):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 40_000, generator=generator)
    if regions:
        truth = torch.rand(logits.shape, generator=generator) < logits.sigmoid()
        sure = (logits * 2.5).sigmoid()
    else:
        truth = torch.multinomial(logits.softmax(0).T, 1, generator=generator)[:, 0]
        sure = (logits * 2.5).softmax(0)
    found = fit_temperature(sure, truth, regions)
    assert found == pytest.approx(2.5, rel=0.03)
    assert likelihood(tempered(sure, found, regions), truth, regions) < likelihood(sure, truth, regions)


def test_certain_and_impossible_voxels_stay_finite():
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert tempered(certain, 1, False) is certain
    assert torch.isfinite(tempered(certain, 3.0, False)).all()
    assert math.isfinite(likelihood(certain, torch.tensor([1, 1]), False))
    assert fit_temperature(torch.empty(2, 0), torch.empty(0), False) == 1
    np.testing.assert_allclose(tempered(certain, 3.0, True).numpy(), certain.numpy(), atol=1e-6)
