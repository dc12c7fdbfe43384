"""The second stage of a cascade, plane by plane, equals the plain method on one-hot channels bit for bit."""

import numpy as np
import pytest
import torch
from plain_windows import plain
from torch import Tensor, nn

from segment.data.labels import Labels
from segment.inference.predictor import Predictor
from segment.inference.windows import SlidingWindows, assembled
from segment.io.geometry import Grid
from segment.io.images import Image
from segment.preprocessing.cascade import network_channels
from segment.preprocessing.plan import Plan

LABELS = Labels({"background": 0, "organ": 4, "tumour": 9})
FIRST = np.zeros((11, 9, 13), np.uint8)
FIRST[2:8, 3:7, 4:11], FIRST[4:6, 4:6, 5:9] = 1, 2


class Mixing(nn.Module):
    """Logits of three classes from one image channel and two of the mask: elementwise, so a batch changes no bit."""

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, windows: Tensor) -> Tensor:
        image, organ, tumour = windows.split(1, dim=1)
        moved = image.roll(self.shift, 2)
        return torch.cat([moved * 1.2, image + organ * 1.3, tumour * 9 - moved * organ.roll(1, 3)], dim=1)


@pytest.mark.parametrize(("window", "mirror"), [((5, 4, 6), [1]), ((16, 9, 8), "all"), ((4, 6), [])])
def test_planes_equal_the_plain_method_on_one_hot_channels(window, mirror):
    plan = Plan((1.0,) * len(window), window, 1, ("none",), (0, 1, 2), previous_stage="3d_lowres")
    windows = SlidingWindows(mirror=mirror, batch_size=3)
    networks = nn.ModuleList([Mixing(1), Mixing(2)])
    predictor = Predictor(networks, plan, windows, LABELS, previous=lambda image, name: FIRST)
    scan = np.random.default_rng(0).normal(size=(1, *FIRST.shape)).astype(np.float32) + 3
    image, placement = predictor.prepare(Image(scan, Grid(FIRST.shape, np.diag([-1.0, -1, 1, 1]))), "scan")
    assert network_channels(plan, LABELS) == 3
    assert image.shape[0] == 2
    given = image[1]
    channels = torch.stack([image[0], (given == 1).float(), (given == 2).float()])
    assert channels[1:].sum() == np.count_nonzero(FIRST)
    axis = windows.axis(image.shape[1:], window)
    expected = plain(windows, list(networks), channels, window, axis=axis)
    assert torch.equal(assembled(predictor._planes(image, axis, whole=False), image.shape[1:], axis), expected)
    mask = predictor.mask(image, placement)
    assert {0, 1, 2} == set(np.unique(mask))
    np.testing.assert_array_equal(mask, predictor.classes(expected, placement))
