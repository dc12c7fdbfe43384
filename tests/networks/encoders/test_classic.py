"""The classic encoders against the networks whose weights they take.

torchvision_layout.json lists the names and shapes of the state dicts of torchvision 0.28.0 (efficientnet: of
EfficientNet-PyTorch 0.7.1), in 2D on RGB, with their classifiers.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from segment.networks.encoders.classic import CLASSIC
from segment.networks.weights import CLASSIFIERS, load_encoder

LAYOUT = json.loads((Path(__file__).parent / "torchvision_layout.json").read_text())
PARAMETERS = {
    "alexnet": 2_469_696,
    "vgg11": 9_220_480,
    "vgg16": 14_714_688,
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "densenet121": 6_953_856,
    "densenet169": 12_484_480,
    "densenet161": 26_472_000,
    "mobilenet_v2": 2_223_872,
    "efficientnet": 3_595_388,
}
# Mean magnitude and standard deviation of the last map of the originals, with the weights and the image below.
# AlexNet's original was padded as ours is.
RESPONSES = {
    "alexnet": (2.350139, 2.241613),
    "vgg11": (2.449083, 2.581677),
    "vgg16": (1.790744, 1.938127),
    "resnet18": (24.06402, 29.71641),
    "resnet34": (466.2817, 528.583),
    "resnet50": (1203.012, 1407.427),
    "resnet101": (2182005, 2521176),
    "densenet121": (2.396204, 3.105203),
    "densenet169": (2.131771, 2.797584),
    "densenet161": (2.076054, 2.674464),
    "mobilenet_v2": (1.390849, 1.897863),
    "efficientnet": (0.1458668, 0.1886925),
}
STRIDES = {
    "alexnet": [4, 8, 16, 32],
    "vgg11": [1, 2, 4, 8, 16, 32],
    "vgg16": [1, 2, 4, 8, 16, 32],
    "resnet18_pooled": [4, 4, 8, 16, 32],
    "vit_b16": [2, 4, 8, 16],
}

every_encoder = pytest.mark.parametrize("name", CLASSIC)
every_published = pytest.mark.parametrize("name", LAYOUT)


def trunk(name: str) -> list[tuple[str, list[int]]]:
    return [(key, shape) for key, shape in LAYOUT[name] if not key.startswith(CLASSIFIERS)]


def reproducible_weights(tensors: list[tuple[str, list[int]]]) -> dict[str, Tensor]:
    """Values that keep the activations in range, different in every tensor, also the running statistics."""
    generator, state = torch.Generator().manual_seed(3), {}
    for key, shape in tensors:
        value = torch.randn(shape, generator=generator)
        if key.endswith("num_batches_tracked"):
            value = torch.tensor(5)
        elif len(shape) > 1:
            value *= math.sqrt(2 / math.prod(shape[1:]))
        elif key.endswith(("bias", "mean")):
            value *= 0.1
        else:
            value = 1 + 0.3 * torch.tanh(value)
        state[key] = value
    return state


def test_all_published_encoders_exist():
    assert set(LAYOUT) == set(PARAMETERS) == set(RESPONSES)
    assert set(LAYOUT) <= set(CLASSIC)


@every_published
def test_parameters_equal_the_published_without_the_classifier(name):
    with torch.device("meta"):
        encoder = CLASSIC[name](spatial_dims=2, in_channels=3)
    assert sum(p.numel() for p in encoder.parameters()) == PARAMETERS[name]
    assert [(encoder.published_name(key), list(v.shape)) for key, v in encoder.state_dict().items()] == trunk(name)


@every_published
def test_outputs_equal_those_of_the_original(name):
    encoder = CLASSIC[name](spatial_dims=2, in_channels=3).eval()
    load_encoder(encoder, reproducible_weights(trunk(name)))
    with torch.inference_mode():
        last = encoder(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(4)))[-1]
    assert (last.abs().mean().item(), last.std().item()) == pytest.approx(RESPONSES[name], rel=1e-4)


def check_maps(name: str, encoder: nn.Module, image: Tensor, maps: list[Tensor]) -> None:
    """Each map is an exact fraction of the image."""
    assert len(maps) == len(encoder.features) == len(encoder.strides)
    assert encoder.strides == [(step,) * (image.ndim - 2) for step in STRIDES.get(name, [2, 4, 8, 16, 32])]
    for hidden, features, strides in zip(maps, encoder.features, encoder.strides, strict=True):
        sizes = [size // step for size, step in zip(image.shape[2:], strides, strict=True)]
        assert list(hidden.shape) == [image.shape[0], features, *sizes]


@every_encoder
def test_the_maps_are_fractions_of_an_image_and_every_parameter_learns_from_a_batch_of_one(name):
    encoder = CLASSIC[name](spatial_dims=2, in_channels=2).train()
    image = torch.randn(1, 2, 32, 64, generator=torch.Generator().manual_seed(1))
    maps = encoder(image)
    check_maps(name, encoder, image, maps)
    sum((hidden**2).mean() for hidden in maps).backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, f"{key} takes no part"
        assert torch.isfinite(parameter.grad).all(), key


@every_encoder
def test_the_maps_are_fractions_of_a_volume_and_no_parameter_lies_behind_the_last(name):
    with torch.device("meta"):
        encoder = CLASSIC[name](spatial_dims=3, in_channels=4).train()
        image = torch.randn(1, 4, 96, 64, 128)
        maps = encoder(image)
        check_maps(name, encoder, image, maps)
        # The transformer's finer maps have layers of their own.
        (sum(hidden.mean() for hidden in maps) if name == "vit_b16" else maps[-1].mean()).backward()
    assert [key for key, parameter in encoder.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2", "efficientnet"])
def test_volumes_are_encoded(name):
    encoder = CLASSIC[name](spatial_dims=3, in_channels=1).eval()
    with torch.inference_mode():
        maps = encoder(torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(2)))
    assert all(torch.isfinite(hidden).all() and hidden.std() > 0 for hidden in maps)


@every_encoder
@pytest.mark.parametrize(("dims", "channels"), [(1, 3), (4, 3), (2, 0), (3, -1), (2, 1.5)])
def test_absurd_arguments_are_refused(name, dims, channels):
    with pytest.raises(ValueError, match=r"spatial_dims|in_channels"):
        CLASSIC[name](spatial_dims=dims, in_channels=channels)
