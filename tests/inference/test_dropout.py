"""Passes with dropout: what is dropped is a function of scan, pass and window."""

import contextlib

import pytest
import torch
from torch import nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.predictor import Predictor
from segment.inference.windows import SlidingWindows
from segment.preprocessing.plan import Plan

LABELS = Labels({"background": 0, "a": 1})
PLAN = Plan((1.0, 1.0), (8, 8), 2, ("zscore",))


def network(share: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Dropout2d(share), nn.Conv2d(16, 2, 1)).eval()


def planes(made: nn.Module, image: torch.Tensor, entropies: bool = True, **windows) -> torch.Tensor:
    predictor = Predictor(made, PLAN, SlidingWindows(**windows), LABELS)
    found = [plane for _, plane in predictor._planes(image, 0, whole=False, entropies=entropies)]
    assert not any(layer.training for layer in made.modules())
    return found[0]


def test_passes_differ_and_are_drawn_from_scan_pass_and_window_alone():
    image = torch.randn(1, 12, 14, generator=torch.Generator().manual_seed(1))
    made = network()
    state = torch.random.get_rng_state()
    first = planes(made, image, dropout=6, batch_size=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(planes(made, image, dropout=6, batch_size=1), first)
    *mean, entropy = first
    of_mean = torch.special.entr(torch.stack(mean)).sum(0) / torch.log(torch.tensor(2.0))
    assert (of_mean - entropy).min() > -1e-5
    assert (of_mean - entropy).mean() > 1e-3  # the passes disagree
    assert not torch.equal(planes(made, image, dropout=5), first)
    other = image.clone()
    other[0, 0, 0] += 1  # what is dropped changes in every window of another scan
    assert (planes(made, other, dropout=6)[0, -1, -1] != first[0, -1, -1]).all()
    # The mean of many passes is near the network without dropout, which scales what it keeps.
    many = planes(made, image, dropout=300, overlap=0.0)[:2]
    torch.testing.assert_close(many, planes(made, image, overlap=0.0)[:2], atol=0.06, rtol=0)


def test_networks_without_dropout_are_refused():
    with pytest.raises(UserError, match=r"inference.dropout=3: the network has no dropout"):
        planes(network(0.0), torch.zeros(1, 8, 8), dropout=3)
    with pytest.raises(ValueError, match="dropout=-1 must be a whole number of passes"):
        SlidingWindows(dropout=-1)
    with contextlib.suppress(UserError):
        planes(nn.ModuleList([network(), network(0.0)]), torch.zeros(1, 8, 8), dropout=3)
        pytest.fail("one of the members has no dropout")
