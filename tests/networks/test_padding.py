import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segment.networks.padding import PadToDivisor, channels_last, count_parameters, crop_to, pad_to_divisor

sizes_and_divisors = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 8)), min_size=2, max_size=3)


@settings(max_examples=50, deadline=None)
@given(sizes_and_divisors)
def test_padding_reaches_the_next_multiple_and_cropping_undoes_it(pairs):
    sizes, divisors = zip(*pairs, strict=True)
    image = torch.rand(2, 1, *sizes)
    padded = pad_to_divisor(image, divisors)
    multiples = [reached / divisor for divisor, reached in zip(divisors, padded.shape[2:], strict=True)]
    least = [-(-size // divisor) for size, divisor in zip(sizes, divisors, strict=True)]
    if max(divisors) > 1 and max(least) == 1:
        least[-1] = 2  # else the coarsest map would have one voxel
    assert multiples == least
    assert torch.equal(crop_to(padded, sizes), image)


def test_padding_repeats_the_far_border():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_divisor(image, (4, 2))
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_divisor(image, (1, 3)) is image


def test_padding_avoids_a_single_multiple_on_every_axis():
    assert pad_to_divisor(torch.rand(1, 1, 3, 4), (4, 4)).shape == (1, 1, 4, 8)
    assert pad_to_divisor(torch.rand(1, 1, 3, 5), (4, 4)).shape == (1, 1, 4, 8)
    assert pad_to_divisor(torch.rand(1, 1, 5, 4), (4, 4)).shape == (1, 1, 8, 4)
    assert pad_to_divisor(torch.rand(1, 1, 1, 1), (1, 1)).shape == (1, 1, 1, 1)


class OnlyMultiples(nn.Module):
    """Stands for a third-party network that refuses sizes it cannot halve."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.made_with = (spatial_dims, in_channels, out_channels)
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        assert all(size % 4 == 0 for size in image.shape[2:])
        return self.factor * image


@pytest.mark.parametrize("shape", [(5, 8), (7, 9, 3), (8, 8, 8)])
def test_padded_network_accepts_any_size(shape):
    network = PadToDivisor(OnlyMultiples, 4, spatial_dims=len(shape), in_channels=2, out_channels=3)
    image = torch.rand(1, 2, *shape)
    torch.testing.assert_close(network(image), 2 * image)
    assert network.network.made_with == (len(shape), 2, 3)


def test_only_trainable_parameters_are_counted():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    assert count_parameters(network) == 2 * 3 * 9 + 3 + 3 + 3
    network[0].requires_grad_(False)
    assert count_parameters(network) == 6


@pytest.mark.parametrize(("dims", "convolution"), [(2, nn.Conv2d), (3, nn.Conv3d)])
def test_channels_last_changes_the_layout_not_the_values(dims, convolution):
    network = convolution(4, 6, 3)
    before = network.weight.detach().clone()
    assert channels_last(network, dims) is network
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    assert network.weight.is_contiguous(memory_format=layout)
    assert torch.equal(network.weight, before)
