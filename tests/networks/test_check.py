"""A network whose output does not fit the task is told before it is trained."""

import pytest
import torch
from torch import nn

from segment.networks.check import check_outputs


class Net(nn.Module):
    """Returns what `change` makes of the logits."""

    def __init__(self, outputs=3, change=lambda logits, training: logits):
        super().__init__()
        self.layer, self.norm = nn.Conv3d(1, outputs, 3, padding=1), nn.BatchNorm3d(outputs)
        self.dropout = nn.Dropout(0.5)
        self.change = change

    def forward(self, image):
        return self.change(self.dropout(self.norm(self.layer(image))), self.training)


def half(logits):
    return nn.functional.avg_pool3d(logits, 2)


def needs_values(logits, training):
    return logits if logits.sum().item() < 1e9 else None


def check(network):
    check_outputs(network, 1, 3, (8, 6, 4))


@pytest.mark.parametrize(
    "change",
    [
        lambda logits, training: logits,
        lambda logits, training: [logits, half(logits)] if training else logits,
        needs_values,
    ],
)
def test_a_sound_network_passes_and_is_unchanged(change):
    network = Net(change=change)
    before, random = {key: value.clone() for key, value in network.state_dict().items()}, torch.get_rng_state()
    check(network)
    assert network.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Net(outputs=2), "returns 2 channels in evaluation mode, but the labels need 3"),
        (Net(change=lambda logits, training: half(logits)), "returns 4x3x2 voxels .* for a patch of 8x6x4"),
        (Net(change=lambda logits, training: (logits, logits)), "returns a tuple in evaluation mode"),
        (Net(change=lambda logits, training: {"out": logits}), "returns a dict in evaluation mode"),
        (
            Net(change=lambda logits, training: {"out": logits} if training else logits),
            "returns a dict during training",
        ),
        (
            Net(change=lambda logits, training: (logits, logits[:, :1]) if training else logits),
            "returns 1 channels",
        ),
        (Net(change=lambda logits, training: [half(logits)] if training else logits), "returns 4x3x2 voxels during"),
        (Net(change=lambda logits, training: half(needs_values(logits, training))), "returns 4x3x2 voxels"),
        (nn.Conv3d(2, 3, 1), r"cannot be computed on the plan's patches of 8x6x4 voxels \(RuntimeError"),
    ],
)
def test_a_network_that_does_not_fit_is_told(network, said):
    with pytest.raises(ValueError, match=said):
        check(network)
