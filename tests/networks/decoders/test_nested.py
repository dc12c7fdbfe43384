from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from segment.networks.blocks import ResidualBlock
from segment.networks.decoders.nested import NestedDecoder
from segment.networks.decoders.unet import UNetDecoder
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.padding import count_parameters
from segment.networks.resample import Interpolation, MaxPool, TransposedConv
from segment.networks.stages import BlockStage
from segment.networks.unet import UNet

ResidualStage = partial(BlockStage, block=ResidualBlock)

FLAT = SimpleNamespace(features=[2, 3, 4, 5], strides=[(1, 1), (2, 2), (4, 4), (8, 8)])
THICK = SimpleNamespace(
    features=[2, 3, 4], strides=[(1, 1, 1), (1, 2, 2), (2, 4, 4)], kernel_sizes=[(1, 3, 3), (3, 1, 1), (3, 3, 3)]
)


def maps(like: SimpleNamespace) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [[2 * n // s for n, s in zip(like.strides[-1], stride, strict=True)] for stride in like.strides]
    return [torch.randn(2, c, *size, generator=generator) for c, size in zip(like.features, sizes, strict=True)]


@pytest.mark.parametrize("like", [FLAT, THICK])
@pytest.mark.parametrize("up", [TransposedConv, Interpolation])
def test_node_ij_reads_row_i_left_of_it_and_the_node_below(like, up):
    dims, n = len(like.strides[0]), len(like.features)
    decoder = NestedDecoder(dims, like, up=up)
    assert set(decoder.stages) == {f"{i}_{j}" for j in range(1, n) for i in range(n - j)}
    seen: dict[str, Tensor] = {}
    for name, stage in decoder.stages.items():
        stage.register_forward_hook(lambda _, args, result, name=name: seen.update({name: args[0]}))
    image = maps(like)
    results = decoder(image)

    # x[i, j] = stage(x[i, 0], ..., x[i, j - 1], up(x[i + 1, j - 1])): the paper's equation 1
    x = {(i, 0): hidden for i, hidden in enumerate(image)}
    for j in range(1, n):
        for i in range(n - j):
            larger = decoder.ups[f"{i}_{j}"](x[i + 1, j - 1])
            read = torch.cat([*(x[i, k] for k in range(j)), larger], dim=1)
            torch.testing.assert_close(seen[f"{i}_{j}"], read)
            from_below = like.features[i] if up is not Interpolation else like.features[i + 1]
            assert read.shape[1] == j * like.features[i] + from_below
            x[i, j] = decoder.stages[f"{i}_{j}"](read)
    torch.testing.assert_close(results, [x[0, j] for j in range(n - 1, 0, -1)])
    assert decoder.features == [like.features[0]] * (n - 1) == [m.shape[1] for m in results]
    assert decoder.strides == [(1,) * dims] * (n - 1)


def test_maps_come_deepest_first():
    decoder, image = NestedDecoder(2, FLAT), maps(FLAT)
    before = decoder(image)
    for changed, expected in (("0_3", [True, False, False]), ("0_2", [True, True, False]), ("0_1", [True, True, True])):
        nodes = NestedDecoder(2, FLAT)
        nodes.load_state_dict(decoder.state_dict())
        nn.init.ones_(nodes.stages[changed][-1].adn.N.bias)
        after = nodes(image)
        assert [not torch.allclose(a, b) for a, b in zip(before, after, strict=True)] == expected


def test_arguments_set_kernels_strides_depth_and_stage():
    decoder = NestedDecoder(3, THICK, depth=3)
    assert [len(stage) for stage in decoder.stages.values()] == [3, 3, 3]
    assert decoder.stages["0_2"][0].conv.kernel_size == (1, 3, 3)
    assert decoder.stages["1_1"][0].conv.kernel_size == (3, 1, 1)
    assert decoder.ups["0_1"][0].stride == (1, 2, 2)
    assert decoder.ups["1_1"][0].stride == (2, 2, 2)
    assert {type(node[0]) for node in NestedDecoder(2, FLAT, stage=ResidualStage).stages.values()} == {ResidualBlock}


@pytest.mark.parametrize("stride", [(2, 2), (1, 2)])
def test_an_encoder_that_starts_coarse_is_refused(stride):
    with pytest.raises(ValueError, match="image's resolution"):
        NestedDecoder(2, SimpleNamespace(features=[2, 4], strides=[stride, (4, 4)]))


def nested_unet(**more) -> UNet:
    torch.manual_seed(0)
    return UNet(2, 1, 3, partial(StagedEncoder, features=[4, 6, 8, 10]), NestedDecoder, **more)


def test_the_mean_of_all_heads_predicts():
    network = nested_unet(deep_supervision=2, average=True)
    image = torch.randn(1, 1, 14, 16)
    logits = network.train()(image)
    assert [tuple(one.shape) for one in logits] == [(1, 3, 14, 16)] * 3
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(image), (logits[0] + logits[1] + logits[2]) / 3)
    first = nested_unet(deep_supervision=2)
    first.load_state_dict(network.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(first.eval()(image), logits[0])
        torch.testing.assert_close(nested_unet(average=True).eval()(image), logits[0])  # of one head
    with pytest.raises(ValueError, match="average=true"):
        UNet(2, 1, 3, partial(StagedEncoder, features=[4, 6, 8]), UNetDecoder, deep_supervision=1, average=True)


def test_every_parameter_learns_with_all_heads():
    network = nested_unet(deep_supervision=2).train()
    sum(logits.square().sum() for logits in network(torch.randn(1, 1, 16, 16))).backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(ValueError, match="between 0 and 2"):
        nested_unet(deep_supervision=3)


@pytest.mark.parametrize(("deep_supervision", "count"), [(0, 9_041_601), (3, 9_041_700)])
def test_parameters_equal_those_of_the_authors(deep_supervision, count):
    # As commented in keras/helper_functions.py of MrGiovanni/UNetPlusPlus, commit 2659ddc, for 1 channel and 1 class.
    stage = partial(BlockStage, norm=None, act="relu")
    encoder = partial(StagedEncoder, features=[32, 64, 128, 256, 512], stage=stage, down=MaxPool)
    with torch.device("meta"):
        network = UNet(2, 1, 1, encoder, partial(NestedDecoder, stage=stage), deep_supervision=deep_supervision)
    assert count_parameters(network) == count
