from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from segment.networks import blocks
from segment.networks.blocks import (
    ConvBlock,
    DenseLayer,
    MedNeXtBlock,
    PreActivationBlock,
    RecurrentBlock,
    ResidualBlock,
    per_axis,
)

STRIDED = {
    "conv": ConvBlock,
    "residual": ResidualBlock,
    "residual_wide": partial(ResidualBlock, bottleneck=4),
    "preactivation": PreActivationBlock,
    "preactivation_first": partial(PreActivationBlock, leading=False),
    "mednext": MedNeXtBlock,
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("block", STRIDED.values(), ids=STRIDED)
@settings(max_examples=12, deadline=None)
@given(
    axes=st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 3), st.integers(2, 3)), min_size=2, max_size=3),
    channels=st.sampled_from([(1, 4), (4, 4), (3, 8), (6, 5)]),
)
def test_a_block_divides_each_axis_by_its_stride(block, axes, channels):
    kernel, stride, voxels = zip(*axes, strict=True)
    made = block(len(axes), *channels, kernel, stride).train()
    result = made(torch.randn(2, channels[0], *(n * s for n, s in zip(voxels, stride, strict=True))))
    assert result.shape == (2, channels[1], *voxels)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("block", STRIDED.values(), ids=STRIDED)
@pytest.mark.parametrize("wrong", [{"kernel_size": [3, 3, 3]}, {"stride": [2]}])
def test_numbers_must_match_the_axes(block, wrong):
    with pytest.raises(ValueError, match="2 axes"):
        block(2, 4, 4, **wrong)


def test_one_number_applies_to_all_axes():
    assert per_axis(2, 3) == (2, 2, 2)
    assert per_axis([1, 2], 2) == (1, 2)


@pytest.mark.parametrize("block", STRIDED.values(), ids=STRIDED)
def test_block_does_not_modify_its_input(block):
    # The activations work in place; a skip that reads the input afterwards must not see that.
    style = {} if block is MedNeXtBlock else {"norm": None, "act": blocks.LEAKY}
    for more in ({}, style):
        image = noise(1, 4, 4, 4)
        before = image.clone()
        block(2, 4, 4, **more)(image)
        assert torch.equal(image, before)


def test_conv_block_follows_nnunet_or_its_arguments():
    plain = ConvBlock(2, 2, 4, [1, 3])
    assert [name for name, _ in plain.named_parameters()] == ["conv.weight", "conv.bias", "adn.N.weight", "adn.N.bias"]
    image = noise(1, 2, 4, 4)
    expected = functional.conv2d(image, plain.conv.weight, plain.conv.bias, padding=(0, 1))
    expected = functional.leaky_relu(functional.instance_norm(expected), 0.01)
    torch.testing.assert_close(plain(image), expected)
    other = ConvBlock(2, 2, 4, norm="batch", act=["elu", {"alpha": 0.5}], dropout=0.25, bias=False, ordering="ADN")
    assert other.conv.bias is None
    assert [type(layer) for layer in other.adn] == [nn.ELU, nn.Dropout, nn.BatchNorm2d]
    assert other.adn.A.alpha == 0.5
    assert other.adn.D.p == 0.25
    assert not list(ConvBlock(2, 2, 4, norm=None, act=None).modules())[2:]


def test_prelu_learns_one_slope_per_channel():
    block = ConvBlock(2, 1, 3, 1, norm=None, act="prelu", bias=False)
    assert block.adn.A.weight.shape == (3,)
    with torch.no_grad():
        block.conv.weight.fill_(1)
        block.adn.A.weight.copy_(torch.tensor([0.0, 0.5, 2.0]))
    torch.testing.assert_close(block(torch.full((1, 1, 1, 1), -1.0)).flatten(), torch.tensor([0.0, -0.5, -2.0]))


@pytest.mark.parametrize("bottleneck", [1, 2])
@pytest.mark.parametrize(("channels", "stride"), [(4, 1), (4, (1, 2)), (2, 1), (2, 2)])
def test_residual_block_is_initially_its_skip(bottleneck, channels, stride):
    block = ResidualBlock(2, channels, 4, stride=stride, bottleneck=bottleneck)
    image = noise(2, channels, 4, 4)
    skip = functional.avg_pool2d(image, stride, stride)
    if channels != 4:
        conv = block.skip[-1].conv
        assert conv.bias is None
        skip = functional.instance_norm(functional.conv2d(skip, conv.weight))
    torch.testing.assert_close(block(image), functional.leaky_relu(skip, 0.01))
    # Both summands reach the result once the last norm has learnt something.
    nn.init.ones_(block.convolutions[-1].adn.N.weight)
    torch.testing.assert_close(block(image), functional.leaky_relu(skip + block.convolutions(image), 0.01))
    assert not torch.allclose(block(image), functional.leaky_relu(skip, 0.01), atol=0.1)


def test_a_residual_block_without_zero_init_or_norm():
    image = noise(1, 4, 4, 4)
    for block in (ResidualBlock(2, 4, 4, zero_init=False), ResidualBlock(2, 4, 4, norm=None)):
        assert not torch.allclose(block(image), functional.leaky_relu(image, 0.01), atol=0.01)


def test_bottleneck_places_stride_kernel_and_dropout():
    block = ResidualBlock(3, 6, 8, [1, 3, 3], [1, 2, 2], bottleneck=4, dropout=0.5)
    convolutions = [part.conv for part in block.convolutions]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(6, 2), (2, 2), (2, 8)]
    assert [c.kernel_size for c in convolutions] == [(1, 1, 1), (1, 3, 3), (1, 1, 1)]
    assert [c.stride for c in convolutions] == [(1, 1, 1), (1, 2, 2), (1, 1, 1)]
    assert [hasattr(part.adn, "D") for part in block.convolutions] == [False, True, False]
    assert [hasattr(part.adn, "A") for part in block.convolutions] == [True, True, False]


def test_pre_activation_by_hand():
    # One channel, 1x1 kernels, no norm: conv2(relu(conv1(relu(x)))) + skip(x).
    block = PreActivationBlock(2, 1, 1, kernel_size=1, norm=None)
    first, second = block.convolutions[1].conv, block.convolutions[3].conv
    with torch.no_grad():
        for conv, weight, bias in ((first, -2.0, 1.0), (second, 3.0, 0.5), (block.skip.conv, 10.0, 0.25)):
            conv.weight.fill_(weight)
            conv.bias.fill_(bias)
    image = torch.tensor([-1.0, 0.25, 2.0]).reshape(1, 1, 1, 3)
    # relu: 0, .25, 2; times -2 plus 1: 1, .5, -3; relu: 1, .5, 0; times 3 plus .5: 3.5, 2, .5; skip: -9.75, 2.75, 20.25
    torch.testing.assert_close(block(image).flatten(), torch.tensor([-6.25, 4.75, 20.75]))
    plain = PreActivationBlock(2, 1, 1, kernel_size=1, norm=None, leading=False)
    plain.load_state_dict(block.state_dict())
    # Without the first relu the first voxel becomes 3, thus 9.5.
    torch.testing.assert_close(plain(image).flatten(), torch.tensor([-0.25, 4.75, 20.75]))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_recurrent_block_applies_one_convolution_again_and_again(steps):
    block = RecurrentBlock(2, 2, steps=steps, norm=None, act="relu")
    assert len(list(block.parameters())) == 2  # one kernel and one bias for all steps
    image = noise(1, 2, 5, 5)
    calls = []
    block.convolution.register_forward_hook(lambda _, seen, result: calls.append(seen[0]))
    result = block(image)
    assert len(calls) == steps + 1
    state = torch.zeros_like(image)
    for _ in range(steps + 1):
        seen = image + state
        state = functional.relu(functional.conv2d(seen, *block.parameters(), padding=1))
    torch.testing.assert_close(result, state)
    torch.testing.assert_close(calls[-1], seen)


def test_a_recurrent_block_needs_a_step():
    with pytest.raises(ValueError, match="steps=0"):
        RecurrentBlock(2, 4, steps=0)


def test_a_dense_layer_is_norm_activation_convolution_dropout():
    layer = DenseLayer(2, 3, 5, dropout=0.3).eval()
    image = noise(2, 3, 4, 4)
    conv = layer[1].conv
    layer[0].N.running_mean.fill_(0.5)
    normed = (image - 0.5) / (1 + 1e-5) ** 0.5  # the running variance is 1
    expected = functional.conv2d(functional.relu(normed), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(layer(image), expected)
    assert [m.p for m in layer.modules() if isinstance(m, nn.Dropout)] == [0.3]


@pytest.mark.parametrize(("dims", "stride"), [(2, (1, 3)), (2, 2), (3, (1, 2, 2)), (3, (2, 1, 3))])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_transposed_mednext_block_multiplies_each_axis(dims, stride, kernel):
    steps = per_axis(stride, dims)
    block = MedNeXtBlock(dims, 2, 3, kernel, stride, transposed=True)
    size = (2, 3, 4)[:dims]
    result = block(noise(1, 2, *size))
    assert result.shape == (1, 3, *(n * s for n, s in zip(size, steps, strict=True)))
    # The authors' padding in front: nothing but zeros there, and values at the far end.
    for axis, step in enumerate(steps):
        assert (result.narrow(axis + 2, 0, step - 1) == 0).all()
        assert (result.narrow(axis + 2, result.shape[axis + 2] - 1, 1) != 0).any()


def test_mednext_by_hand():
    block = MedNeXtBlock(2, 2, 2, 3, expansion=3)
    assert block.depthwise.groups == 2
    assert block.expand.out_channels == 6
    image = noise(1, 2, 4, 4)
    hidden = functional.conv2d(image, block.depthwise.weight, block.depthwise.bias, padding=1, groups=2)
    hidden = functional.instance_norm(hidden)
    hidden = functional.gelu(functional.conv2d(hidden, block.expand.weight, block.expand.bias))
    hidden = functional.conv2d(hidden, block.compress.weight, block.compress.bias)
    torch.testing.assert_close(block(image), hidden + image)
    assert isinstance(block.skip, nn.Identity)
    assert isinstance(MedNeXtBlock(2, 2, 2, stride=2).skip, nn.Conv2d)
    assert isinstance(MedNeXtBlock(2, 2, 4).skip, nn.Conv2d)


def test_names_of_layers_may_be_lists_as_yaml_writes_them():
    assert blocks.named(["leakyrelu", {"negative_slope": 0.2}]) == ("leakyrelu", {"negative_slope": 0.2})
    assert blocks.named("relu") == "relu"
    assert blocks.named(None) is None
