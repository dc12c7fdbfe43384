"""Published weights are loaded completely, for any number of channels and dimensions, or refused with a reason."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segment.networks.encoders.classic import CLASSIC
from segment.networks.weights import CLASSIFIERS, deal_channels, inflate, load_encoder

LAYOUT = json.loads((Path(__file__).parent / "encoders" / "torchvision_layout.json").read_text())


def published(name: str) -> dict[str, Tensor]:
    """Random weights with all names of the original, including the classifier, for which no memory is allocated."""
    generator, state = torch.Generator().manual_seed(1), {}
    for key, shape in LAYOUT[name]:
        if key.startswith(CLASSIFIERS):
            state[key] = torch.zeros(()).expand(shape)
        else:
            value = torch.randn(shape, generator=generator)
            state[key] = value * math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 1 + 0.3 * value.tanh()
    return state


def encoder_of(name: str, dims: int = 2, channels: int = 3) -> nn.Module:
    return CLASSIC[name](spatial_dims=dims, in_channels=channels).eval()


def unchanged(network: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def copy_of(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "resnet18", "resnet50", "densenet121", "mobilenet_v2", "efficientnet"]
)
def test_every_tensor_except_the_classifier_is_loaded(name):
    encoder, state = encoder_of(name), published(name)
    load_encoder(encoder, state)
    left = {key for key in state if not key.startswith(CLASSIFIERS)}
    for key, value in encoder.state_dict().items():
        source = encoder.published_name(key)
        torch.testing.assert_close(value, state[source].to(value.dtype), rtol=0, atol=0)
        left.remove(source)
    assert not left


def test_old_files_without_counters_and_with_dots_in_names_are_taken():
    encoder, state = encoder_of("densenet121"), published("densenet121")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    load_encoder(encoder, old)
    layer = encoder.trunk.denseblock4.denselayer16.layers
    assert torch.equal(layer.norm2.running_var, state["features.denseblock4.denselayer16.norm2.running_var"])
    assert layer.norm2.num_batches_tracked == 0


def test_half_precision_is_converted_to_that_of_the_network():
    encoder, state = encoder_of("alexnet", 3, 1), published("alexnet")
    load_encoder(encoder, {key: value.half() for key, value in state.items()})
    assert encoder.trunk[3].weight.dtype == torch.float32
    torch.testing.assert_close(encoder.trunk[3].weight.sum(2), state["features.3.weight"], rtol=1e-3, atol=1e-5)


def test_an_encoder_with_the_published_names_needs_no_translation():
    source, target = (nn.Sequential() for _ in range(2))
    for network in (source, target):
        network.add_module("fc", nn.Conv2d(3, 4, 3))  # named like a classifier, but its own
        network.add_module("norm", nn.BatchNorm2d(4))
    load_encoder(target, source.state_dict())
    assert unchanged(target, source.state_dict())


# Other dimensions and channels


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7])
def test_dealt_channels_keep_the_response_to_equal_channels(channels):
    weight = torch.randn(8, 3, 3, 3)
    dealt = deal_channels(weight, channels)
    assert dealt.shape == (8, channels, 3, 3)
    torch.testing.assert_close(dealt.sum(1), weight.sum(1))
    assert (dealt.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_dealt_channels_are_the_colours_in_turn():
    weight = torch.randn(8, 3, 3, 3)
    torch.testing.assert_close(deal_channels(weight, 1), weight.sum(1, keepdim=True))
    assert torch.equal(deal_channels(weight, 3), weight)
    torch.testing.assert_close(deal_channels(weight, 6), torch.cat([weight, weight], dim=1) / 2)


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet"])
def test_an_encoder_of_other_channels_responds_alike_to_equal_channels(name, channels):
    colour, other = encoder_of(name), encoder_of(name, channels=channels)
    for encoder in (colour, other):
        load_encoder(encoder, published(name))
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        expected, found = colour(image.expand(-1, 3, -1, -1)), other(image.expand(-1, channels, -1, -1))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_an_inflated_convolution_responds_as_in_2d_away_from_the_border(size):
    flat = nn.Conv2d(2, 4, 3, padding=1)
    deep = nn.Conv3d(2, 4, (size, 3, 3), padding=(size // 2, 1, 1))
    deep.load_state_dict({"weight": inflate(flat.weight.detach(), size), "bias": flat.bias.detach()})
    image = torch.randn(1, 2, 8, 9)
    with torch.inference_mode():
        found = deep(image.unsqueeze(2).expand(-1, -1, 11, -1, -1))
        inside = found[:, :, size // 2 : 11 - size // 2]
        torch.testing.assert_close(inside, flat(image).unsqueeze(2).expand_as(inside))
        # Where the volume ends, zeros come in: the property ends there.
        assert size == 1 or not torch.allclose(found[:, :, 0], inside[:, :, 0])


def test_the_new_axis_of_an_inflated_kernel_comes_first():
    flat, deep = nn.Sequential(nn.Conv2d(3, 4, (3, 5))), nn.Sequential(nn.Conv3d(2, 4, (7, 3, 5)))
    load_encoder(deep, flat.state_dict())
    torch.testing.assert_close(deep[0].weight.sum(dim=(1, 2)), flat[0].weight.sum(dim=1))
    assert (deep[0].weight == deep[0].weight[:, :, :1]).all()


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "mobilenet_v2"])
def test_a_whole_inflated_encoder_responds_as_in_2d(name):
    flat, deep = encoder_of(name), encoder_of(name, 3, 1)
    for encoder in (flat, deep):
        load_encoder(encoder, published(name))
        for module in encoder.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.padding_mode = "circular"  # a volume without borders: all of it is away from them
    image = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        expected = flat(image.expand(-1, 3, -1, -1))
        found = deep(image.unsqueeze(2).expand(-1, -1, 32, -1, -1))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b.unsqueeze(2).expand_as(a), rtol=1e-3, atol=1e-3 * float(b.abs().max()))


# What does not fit


def refusal(encoder: nn.Module, state: dict[str, Tensor]) -> str:
    before = copy_of(encoder)
    with pytest.raises(ValueError, match="tensor") as error:
        load_encoder(encoder, state)
    assert unchanged(encoder, before)
    return str(error.value)


def test_the_first_wrong_shape_is_named_with_both_shapes_and_nothing_is_loaded():
    state = published("resnet18")
    state["layer2.0.conv1.weight"] = torch.zeros(128, 64, 5, 5)
    state["layer4.1.bn2.bias"] = torch.zeros(7)
    words = refusal(encoder_of("resnet18"), state)
    assert "'layer2.0.conv1.weight' is (128, 64, 5, 5) in the weights, (128, 64, 3, 3) in the network" in words
    assert "torchvision's resnet18" in words
    assert "layer4" not in words


def test_a_missing_and_an_unexpected_tensor_are_named():
    state = published("resnet18")
    last = state.pop("layer4.1.bn2.bias")
    assert "'layer4.1.bn2.bias' is absent in the weights, (512,) in the network" in refusal(
        encoder_of("resnet18"), state
    )
    state |= {"layer4.1.bn2.bias": last, "layer4.2.conv1.weight": torch.zeros(2, 3)}
    assert "'layer4.2.conv1.weight' is (2, 3) in the weights, absent in the network" in refusal(
        encoder_of("resnet18"), state
    )


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "vgg11", "densenet121"])
def test_another_networks_weights_are_refused(name):
    refusal(encoder_of("resnet18"), published(name))


def test_efficientnet_says_whose_weights_it_takes():
    words = refusal(encoder_of("efficientnet"), {"features.0.0.weight": torch.zeros(32, 3, 3, 3)})
    assert "EfficientNet-PyTorch" in words


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((64, 4, 11, 11), 2),  # four channels are not RGB
        ((64, 3, 11, 9), 3),
        ((64, 3, 11, 11, 11), 2),  # 3D weights into 2D
        ((32, 3, 11, 11), 3),
        ((64, 3, 11 * 11), 2),
    ],
)
def test_a_first_convolution_that_no_adaptation_fits_is_refused(shape, dims):
    assert f"'features.0.weight' is {shape}" in refusal(
        encoder_of("alexnet", dims, 2), published("alexnet") | {"features.0.weight": torch.zeros(shape)}
    )


def test_only_the_first_convolution_takes_other_channels():
    weight = torch.zeros(192, 3, 5, 5)
    assert "'features.3.weight'" in refusal(encoder_of("alexnet"), published("alexnet") | {"features.3.weight": weight})


def test_absurd_tensor_shape_is_not_allocated():
    absurd = torch.zeros(()).expand(1 << 40, 3, 11, 11)
    assert "1099511627776" in refusal(encoder_of("alexnet", 3, 1), published("alexnet") | {"features.0.weight": absurd})
