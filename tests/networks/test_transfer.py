"""What fits of a network's weights is taken, also into other channels, kernels and dimensions; the rest is named."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from segment.networks.decoders.unet import UNetDecoder
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.transfer import TRANSPOSED, fit_kernel, transfer
from segment.networks.unet import UNet


def unet(dims: int, channels: int, classes: int, kernels: list, strides: list, seed: int) -> UNet:
    torch.manual_seed(seed)
    encoder = partial(StagedEncoder, features=[4, 8], kernel_sizes=kernels, strides=strides)
    return UNet(dims, channels, classes, encoder, UNetDecoder).eval()


def circular(*networks: nn.Module) -> None:
    """Make images borderless: the response to an image constant along an axis is then constant too."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.padding_mode = "circular"


FLAT, DEEP = (2, [3, 3], [1, 2]), (3, [3, 3], [1, 2])
THIN = (3, [[1, 3, 3], [1, 3, 3]], [[1, 1, 1], [1, 2, 2]])


@pytest.mark.parametrize(
    ("source", "target", "there", "here"),
    [(FLAT, DEEP, 1, 1), (FLAT, THIN, 3, 1), (THIN, DEEP, 1, 4), (DEEP, THIN, 2, 3), (DEEP, FLAT, 1, 1)],
)
def test_a_whole_network_of_other_axes_and_channels_responds_alike(source, target, there, here):
    old, new = unet(source[0], there, 2, *source[1:], 1), unet(target[0], here, 2, *target[1:], 2)
    for up in old.modules():  # a constant image has a constant response where all steps along an axis are alike
        if isinstance(up, TRANSPOSED) and source is DEEP:
            up.weight.data[:] = up.weight.data.mean(2, keepdim=True)
    found = transfer(new, old.state_dict())
    assert not found.initial
    assert not found.unused
    first = found.adapted.get("encoder.stages.0.0.conv.weight", "")
    assert ("image channels" in first) == (there != here)
    circular(old, new)
    image = torch.randn(1, 1, 8, 8)
    images = [
        (image if network[0] == 2 else image.unsqueeze(2).expand(-1, -1, 4, -1, -1)).expand(-1, n, *[-1] * network[0])
        for network, n in ((source, there), (target, here))
    ]
    with torch.inference_mode():
        logits = [model(seen) for model, seen in zip((old, new), images, strict=True)]
    planes = [values if values.ndim == 4 else values[:, :, 2] for values in logits]
    torch.testing.assert_close(planes[1], planes[0], rtol=1e-4, atol=1e-4)


def test_a_kernel_of_another_size_on_both_sides_is_left():
    assert fit_kernel(torch.zeros(2, 3, 3, 3), (2, 3, 5, 5)) is None
    old, new = unet(2, 1, 2, [3, 5], [1, 2], 1), unet(2, 1, 3, [3, 3], [1, 2], 2)
    old.decoder = new.decoder  # so that the rest fits
    before = new.state_dict()["encoder.stages.1.0.conv.weight"].clone()
    with pytest.raises(ValueError, match=r"'encoder\.stages\.1\.0\.conv\.weight' is \(8, 4, 5, 5\) in the weights"):
        transfer(new, old.state_dict(), lambda name: None if name.startswith("encoder.stages.1") else "not asked")
    assert torch.equal(new.state_dict()["encoder.stages.1.0.conv.weight"], before)


def test_absurd_shapes_cost_nothing():
    new = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Linear(50, 50))
    state = new.state_dict() | {"0.weight": torch.zeros(()).expand(1 << 40, 1, 3, 3)}
    assert "1099511627776" in transfer(new, state).initial["0.weight"]


# UpKern


def mednext(kernel: int, dims: int) -> nn.Sequential:
    conv = nn.Conv3d if dims == 3 else nn.Conv2d
    up = nn.ConvTranspose3d if dims == 3 else nn.ConvTranspose2d
    layers = [conv(4, 4, kernel, padding=kernel // 2, groups=4), nn.GroupNorm(4, 4), conv(4, 8, 1)]
    return nn.Sequential(*layers, up(8, 8, kernel, stride=2, groups=8), conv(8, 2, 3))


@pytest.mark.parametrize("dims", [2, 3])
def test_small_depthwise_kernels_are_interpolated_and_the_rest_copied(dims):
    small, large = mednext(3, dims), mednext(5, dims)
    assert list(transfer(large, small.state_dict()).adapted) == ["0.weight", "3.weight"]
    old, new = small.state_dict(), large.state_dict()
    assert all(torch.equal(new[key], old[key]) for key in new if key not in ("0.weight", "3.weight"))
    # A step of the new kernel is 3/5 of an old one about the same centre; beyond the outer taps they go on.
    line = torch.tensor([1.0, 2, 4])
    small[0].weight.data[0, 0] = torch.einsum("a,b->ab", line, line) if dims == 2 else _cube(line)
    transfer(large, small.state_dict())
    wide = torch.tensor([1.0, 1.4, 2, 3.2, 4])
    expected = torch.einsum("a,b->ab", wide, wide) if dims == 2 else _cube(wide)
    torch.testing.assert_close(large[0].weight[0, 0].detach(), expected)


def _cube(line: Tensor) -> Tensor:
    return torch.einsum("a,b,c->abc", line, line, line)


def test_equal_kernels_are_copied():
    source, target = mednext(3, 2), mednext(3, 2)
    assert not transfer(target, source.state_dict()).adapted
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())
