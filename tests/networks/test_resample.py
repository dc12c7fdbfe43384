from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from segment.networks.blocks import LEAKY, MedNeXtBlock
from segment.networks.resample import (
    Interpolation,
    LinkNetUp,
    MaxPool,
    MedNeXtUp,
    StridedConv,
    TransitionDown,
    TransposedConv,
    channels_of,
)

DOWN = {"max": MaxPool, "strided": StridedConv, "transition": TransitionDown, "mednext": MedNeXtBlock}
UP = {
    "transposed": TransposedConv,
    "transposed_3": partial(TransposedConv, size=3),
    "transposed_5": partial(TransposedConv, size=5, norm="batch", act="relu"),
    "linear": Interpolation,
    "aligned": partial(Interpolation, align_corners=True),
    "nearest": partial(Interpolation, mode="nearest", size=3),
    "mednext": MedNeXtUp,
    "linknet": LinkNetUp,
}
KEEPING = {"max", "transition", "linear", "aligned"}  # what gives as many channels as it takes
AXES = st.lists(st.tuples(st.integers(1, 4), st.integers(2, 4)), min_size=2, max_size=3)
CHANNELS = st.sampled_from([(1, 4), (4, 4), (8, 2), (3, 5)])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DOWN)
@settings(max_examples=15, deadline=None)
@given(axes=AXES, channels=CHANNELS)
def test_every_downsampling_divides_each_axis_by_its_stride(name, axes, channels):
    stride, voxels = zip(*axes, strict=True)
    way = DOWN[name](len(axes), *channels, 3, stride).train()
    result = way(torch.randn(2, channels[0], *(n * s for n, s in zip(voxels, stride, strict=True))))
    assert result.shape == (2, channels_of(way, channels[1]), *voxels)
    assert channels_of(way, channels[1]) == channels[0 if name in KEEPING else 1]


@pytest.mark.parametrize("name", UP)
@settings(max_examples=15, deadline=None)
@given(axes=AXES, channels=CHANNELS)
def test_every_upsampling_multiplies_each_axis_by_its_stride(name, axes, channels):
    stride, voxels = zip(*axes, strict=True)
    way = UP[name](len(axes), *channels, 3, stride).train()
    result = way(torch.randn(2, channels[0], *voxels))
    assert result.shape == (2, channels_of(way, channels[1]), *(n * s for n, s in zip(voxels, stride, strict=True)))
    assert channels_of(way, channels[1]) == channels[0 if name in KEEPING else 1]


@pytest.mark.parametrize("way", [*DOWN.values(), *UP.values()], ids=[*DOWN, *UP])
def test_resampling_has_stride_2_by_default_and_refuses_other_axes(way):
    if way is not MedNeXtBlock:  # a block whose stride is 1 by default
        size = way(2, 4, 4)(noise(1, 4, 4, 4)).shape[2:]
        assert size in [(2, 2), (8, 8)]
    with pytest.raises(ValueError, match="axes"):
        way(2, 4, 4, 3, (2, 2, 2))


@pytest.mark.parametrize("way", [*DOWN.values(), *UP.values()], ids=[*DOWN, *UP])
def test_resampling_does_not_modify_its_input(way):
    image = noise(1, 4, 4, 4)
    before = image.clone()
    way(2, 4, 4, 3, 2)(image)
    assert torch.equal(image, before)
    TransitionDown(2, 4, 4, norm=None, act=LEAKY)(image)  # whose activation comes first, on what is also the skip
    assert torch.equal(image, before)


def test_max_pool_takes_the_largest_of_each_window():
    image = torch.tensor([[1.0, 5.0, 2.0, 0.0], [3.0, -1.0, 8.0, 2.0]]).reshape(1, 1, 2, 4)
    assert MaxPool(2, 1, 7, 5, (2, 2))(image).flatten().tolist() == [5, 8]
    assert MaxPool(2, 1, 7, 5, (1, 2))(image).flatten().tolist() == [5, 2, 3, 8]


def test_strided_convolutions_see_each_voxel_once():
    way = StridedConv(3, 2, 5, 3, (1, 2, 3), norm=None, act="prelu")
    conv = way.conv
    assert conv.kernel_size == conv.stride == (1, 2, 3)
    assert conv.padding == (0, 0, 0)
    assert way.adn.A.weight.shape == (5,)
    image = noise(1, 2, 2, 4, 6)
    expected = functional.conv3d(image, conv.weight, conv.bias, stride=(1, 2, 3))
    torch.testing.assert_close(way(image), functional.prelu(expected, way.adn.A.weight))


def test_transition_down_is_norm_activation_convolution_dropout_pool():
    way = TransitionDown(2, 3, 9, dropout=0.4).eval()
    image = noise(1, 3, 4, 4)
    conv = way[1].conv
    hidden = functional.conv2d(functional.relu(image / (1 + 1e-5) ** 0.5), conv.weight, conv.bias)
    torch.testing.assert_close(way(image), functional.max_pool2d(hidden, 2))
    assert [m.p for m in way.modules() if isinstance(m, nn.Dropout)] == [0.4]


def test_a_transposed_convolution_has_its_strides_kernel_and_nothing_after_it():
    way = TransposedConv(2, 3, 2, 3, (2, 3))
    assert len(way) == 1
    expected = functional.conv_transpose2d(image := noise(1, 3, 2, 2), way[0].weight, way[0].bias, (2, 3))
    assert way[0].kernel_size == (2, 3)
    torch.testing.assert_close(way(image), expected)
    assert TransposedConv(2, 3, 2, bias=False)[0].bias is None
    following = TransposedConv(2, 3, 2, norm="batch", act="prelu")[1]
    assert isinstance(following.N, nn.BatchNorm2d)
    assert following.A.weight.shape == (2,)


@pytest.mark.parametrize("size", [3, 5])
def test_a_transposed_convolution_of_odd_size_is_torchs_with_output_padding(size):
    way = TransposedConv(2, 3, 2, stride=2, size=size)
    image = noise(1, 3, 3, 4)
    expected = functional.conv_transpose2d(
        image, way[0].weight, way[0].bias, stride=2, padding=size // 2, output_padding=1
    )
    torch.testing.assert_close(way(image), expected)


@pytest.mark.parametrize(("dims", "linear"), [(2, "bilinear"), (3, "trilinear")])
@pytest.mark.parametrize("mode", ["linear", "aligned", "nearest"])
def test_interpolation_equals_torch(dims, linear, mode):
    stride = (3, 1, 2)[:dims]
    more = {"align_corners": mode == "aligned"} if mode != "nearest" else {"mode": "nearest"}
    image = noise(2, 2, *(3, 2, 4)[:dims])
    torch_mode = {"mode": "nearest"} if mode == "nearest" else {"mode": linear, **more}
    expected = functional.interpolate(image, scale_factor=tuple(map(float, stride)), **torch_mode)
    plain = Interpolation(dims, 2, 9, stride=stride, **more)
    torch.testing.assert_close(plain(image), expected)
    assert not list(plain.parameters())
    with_conv = Interpolation(dims, 2, 9, stride=stride, size=3, norm=None, act=None, **more)
    torch.testing.assert_close(with_conv(image), with_conv.convolution.conv(expected))


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match=r"mode='cubic' must be one of nearest, linear"):
        Interpolation(2, 2, 2, mode="cubic")


def test_resampling_of_linknet_and_mednext_passes_arguments_on():
    way = LinkNetUp(2, 16, 6)
    assert [way[0].conv.out_channels, way[1][0].out_channels, way[2].conv.in_channels] == [4, 4, 4]
    assert way[1][0].kernel_size == (3, 3)
    assert LinkNetUp(2, 2, 6)[0].conv.out_channels == 1
    up = MedNeXtUp(3, 4, 2, [1, 5, 5], [1, 2, 2], expansion=3)
    assert isinstance(up.depthwise, nn.ConvTranspose3d)
    assert up.depthwise.kernel_size == (1, 5, 5)
    assert up.expand.out_channels == 12
