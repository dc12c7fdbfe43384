"""Pruned networks: smaller, rebuilt from plain data, trained on by the usual workflow."""

import json

import pytest
import torch
from saved_models import INFERENCE, LABELS, PLAN, edit, refused, tiny
from torch import nn

from segment.errors import UserError
from segment.export.prune import prune, size_of
from segment.inference.architecture import PRUNED, build
from segment.inference.model import load_model, save_model
from segment.networks.channels import channel_counts, resize

WINDOW = (1, 1, 16, 24)
NORMS = {
    "instance": {"norm": ["instance", {"affine": True}]},
    "batch": {"norm": "batch"},
    "group": {"norm": ["group", {"num_groups": 4}]},
}


def described(**stage) -> dict:
    stage = {"_target_": "segment.networks.stages.BlockStage", "_partial_": True} | stage
    return tiny(features=[16, 24], stage=stage)


@pytest.mark.parametrize("norm", NORMS)
def test_pruned_network_is_smaller_and_is_rebuilt_from_plain_data(tmp_path, norm):
    torch.manual_seed(0)
    architecture = described(**NORMS[norm])
    network = build(architecture).train()
    smaller = prune(network, 0.5, WINDOW)
    assert all(module.training for one in (network, smaller) for module in one.modules())
    smaller.eval()
    before, after = size_of(network, WINDOW), size_of(smaller, WINDOW)
    assert after["parameters"] < 0.4 * before["parameters"]
    assert after["gflop"] < 0.5 * before["gflop"]
    again = prune(network, 0.5, WINDOW)
    assert all(map(torch.equal, smaller.state_dict().values(), again.state_dict().values()))
    save_model(
        tmp_path, smaller, architecture | {PRUNED: channel_counts(smaller)}, PLAN, LABELS, ("ct",), INFERENCE, "demo"
    )
    loaded = load_model(tmp_path).network
    image = torch.randn(WINDOW, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(image), smaller(image))

    counts = json.loads((tmp_path / "model.json").read_text())["network"]
    for wrong in (
        {"encoder.nothing": {"num_features": 2}},
        {"encoder": {"in_channels": 2}},
        {"heads.0.0": {"in_channels": 10**9, "out_channels": 3, "groups": 1}},
        {"heads.0.0": {"in_channels": 8, "out_channels": 3, "groups": 5}},
        {"heads.0.0": {"in_channels": True, "out_channels": 3, "groups": 1}},
    ):
        edit(tmp_path, network=counts | {PRUNED: counts[PRUNED] | wrong})
        assert "cannot be built" in refused(tmp_path)


def test_channels_without_weights_go_first_and_change_nothing():
    torch.manual_seed(0)
    network = build(described(norm="batch")).eval()
    half = {}
    for name, module in network.named_modules():  # a network of half the channels, the other half being zero
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d) and not name.startswith("heads"):
            channels = getattr(module, "out_channels", None) or module.num_features
            dead = slice(channels // 2, None)
            with torch.no_grad():
                if isinstance(module, nn.ConvTranspose2d):
                    module.weight[:, dead] = 0
                else:
                    module.weight[dead] = 0
                module.bias[dead] = 0
            half[name] = channels // 2
    smaller = prune(network, 0.5, WINDOW).eval()
    found = channel_counts(smaller)
    assert all(half[name] in found[name].values() for name in half)
    image = torch.randn(WINDOW, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(smaller(image), network(image), atol=1e-5, rtol=1e-4)


def test_depthwise_convolutions_lose_groups_and_others_say_what_is_wrong():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 3, 1))
    smaller = prune(network, 0.5, WINDOW)
    assert channel_counts(smaller)["1"] == {"in_channels": 8, "out_channels": 8, "groups": 8}
    rebuilt = nn.Sequential(nn.Conv2d(1, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 3, 1))
    resize(rebuilt, channel_counts(smaller))
    rebuilt.load_state_dict(smaller.state_dict())

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 16, 1), nn.Conv2d(8, 3, 1)

        def forward(self, image):
            return self.second(self.first(image)[:, :8])

    with pytest.raises(UserError, match=r"prune=0.5: this network cannot be pruned"):
        prune(Fixed(), 0.5, WINDOW)
