from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segment.networks.blocks import ConvBlock, MedNeXtBlock, ResidualBlock
from segment.networks.decoders.unet import UNetDecoder
from segment.networks.joins import Add, AttentionGate, Concatenate
from segment.networks.maps import finer, per_stage, step_between
from segment.networks.resample import Interpolation, LinkNetUp, MedNeXtUp, TransposedConv
from segment.networks.stages import BlockStage, DenseStage, VNetStage

ResidualStage = partial(BlockStage, block=ResidualBlock)
MedNeXtStage = partial(BlockStage, block=MedNeXtBlock)

JOINS = {"concatenate": Concatenate, "add": Add, "gate": AttentionGate}
UPS = {"transposed": TransposedConv, "linear": Interpolation, "mednext": MedNeXtUp, "linknet": LinkNetUp}


def encoder(features: list[int], strides: list[Any], **more: Any) -> SimpleNamespace:
    """What a decoder reads of an encoder."""
    dims = len(strides[0]) if isinstance(strides[0], tuple) else 2
    strides = [stride if isinstance(stride, tuple) else (stride,) * dims for stride in strides]
    return SimpleNamespace(features=features, strides=strides, **more)


def maps(like: SimpleNamespace, size: tuple[int, ...], batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, c, *(n // s for n, s in zip(size, stride, strict=True)), generator=generator)
        for c, stride in zip(like.features, like.strides, strict=True)
    ]


def channels(modules: nn.ModuleList) -> list[int]:
    """What the first convolution of each of the modules takes, finest first."""
    first = [next(m for m in part.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)) for part in modules]
    return [conv.in_channels for conv in reversed(first)]


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS)
@pytest.mark.parametrize("up", UPS.values(), ids=UPS)
@settings(max_examples=6, deadline=None)
@given(
    first=st.lists(st.sampled_from([1, 2, 4]), min_size=3, max_size=3),
    steps=st.lists(st.lists(st.integers(1, 2), min_size=3, max_size=3), min_size=0, max_size=2),
    features=st.lists(st.sampled_from([4, 6, 8]), min_size=3, max_size=3),
    dims=st.integers(2, 3),
)
def test_feature_maps_match_their_description(join, up, first, steps, features, dims):
    strides = [tuple(first[:dims])]
    for step in steps:
        strides.append(tuple(a * b for a, b in zip(strides[-1], step, strict=False)))
    like = encoder(features[: len(strides)], strides)
    decoder = UNetDecoder(dims, like, depths=1, up=up, join=join).train()
    size = tuple(2 * n for n in strides[-1])
    results = decoder(maps(like, size))
    assert decoder.strides[0] == (1,) * dims
    assert decoder.strides[-len(strides) :] == strides
    assert [tuple(m.shape) for m in results] == [
        (2, c, *(n // s for n, s in zip(size, stride, strict=True)))
        for c, stride in zip(decoder.features, decoder.strides, strict=True)
    ]
    assert len(decoder.joins) == len(strides) - 1
    assert decoder.features[-len(strides) :] == like.features


def test_decoder_upsamples_by_two_without_skips_beyond_the_encoder():
    four = UNetDecoder(2, encoder([16, 32], [4, 8]))
    assert four.strides == [(1, 1), (2, 2), (4, 4), (8, 8)]
    assert four.features == [4, 8, 16, 32]
    assert len(four.joins) == 1
    two = UNetDecoder(3, encoder([16, 32], [(1, 2, 4), (2, 4, 8)]))
    assert two.strides == [(1, 1, 1), (1, 1, 2), (1, 2, 4), (2, 4, 8)]
    one = UNetDecoder(2, encoder([16, 32], [1, 2]))
    assert one.features == [16, 32]
    assert UNetDecoder(2, encoder([2, 4], [4, 8])).features == [1, 1, 2, 4]  # halved, but never to nothing


def test_it_may_end_at_a_coarser_map():
    like = encoder([16, 32], [4, 8])
    decoder = UNetDecoder(2, like, finest_stride=2)
    assert decoder.strides == [(2, 2), (4, 4), (8, 8)]
    assert decoder.features == [8, 16, 32]
    assert [m.shape[2:] for m in decoder(maps(like, (16, 16)))] == [(8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize(
    ("up_features", "asked"),
    [
        ("stage", [3, 5, 10, 20]),
        # Without a skip there is nothing to take the number from but the map below.
        ("skip", [5, 10, 10, 20]),
        ("below", [5, 10, 20, 40]),
        ([1, 2, 6, 7], [1, 2, 6, 7]),
    ],
)
def test_upsampling_channels_are_set(up_features, asked):
    like = encoder([10, 20, 40], [4, 8, 16])
    decoder = UNetDecoder(2, like, features=[3, 5, 10, 20], up_features=up_features)
    assert channels(decoder.ups) == [5, 10, 20, 40]
    assert [way[0].out_channels for way in reversed(decoder.ups)] == asked
    assert channels(decoder.stages) == [asked[0], asked[1], asked[2] + 10, asked[3] + 20]
    assert [m.shape[1] for m in decoder(maps(like, (32, 32)))] == decoder.features == [3, 5, 10, 20, 40]


def test_upsampling_may_keep_its_channels():
    decoder = UNetDecoder(2, encoder([4, 8, 16], [1, 2, 4]), up=Interpolation)
    assert channels(decoder.stages) == [8 + 4, 16 + 8]


def test_stages_may_differ_and_are_given_finest_first():
    like = encoder([4, 8, 16], [2, 4, 8])
    decoder = UNetDecoder(
        2,
        like,
        features=[3, 4, 8],
        depths=[1, 3, 2],
        stage=[BlockStage, ResidualStage, MedNeXtStage],
        up=[Interpolation, TransposedConv, LinkNetUp],
        join=[Concatenate, Add],  # one a skip
    )
    assert [type(m[0]) for m in reversed(decoder.stages)] == [ConvBlock, ResidualBlock, MedNeXtBlock]
    assert [type(m) for m in reversed(decoder.ups)] == [Interpolation, TransposedConv, LinkNetUp]
    assert [type(m) for m in reversed(decoder.joins)] == [Concatenate, Add]
    assert [len(m) for m in reversed(decoder.stages)] == [1, 3, 2]
    assert [m.shape[1] for m in decoder(maps(like, (16, 16)))] == [3, 4, 8, 16]


def test_kernels_follow_the_encoder_and_are_3_beyond_it():
    like = encoder([4, 8, 16], [2, 4, 8], kernel_sizes=[(5, 1), (1, 5), (3, 3)])
    decoder = UNetDecoder(2, like)
    assert [stage[0].conv.kernel_size for stage in reversed(decoder.stages)] == [(3, 3), (5, 1), (1, 5)]
    del like.kernel_sizes
    assert {stage[0].conv.kernel_size for stage in UNetDecoder(2, like).stages} == {(3, 3)}


def test_each_sets_arguments_of_single_stages_and_their_upsampling():
    like = encoder([4, 8, 16], [1, 2, 4])
    decoder = UNetDecoder(2, like, stage=MedNeXtStage, up=MedNeXtUp, join=Add, each={"expansion": [2, 3]})
    assert [stage[0].expand.out_channels for stage in reversed(decoder.stages)] == [2 * 4, 3 * 8]
    assert [way.expand.out_channels for way in reversed(decoder.ups)] == [2 * 8, 3 * 16]


class Recorder(nn.Module):
    """A join that remembers what it saw."""

    def __init__(self, spatial_dims: int, skip_channels: int, up_channels: int, below_channels: int) -> None:
        super().__init__()
        self.asked = (skip_channels, up_channels, below_channels)
        self.out_channels = up_channels

    def forward(self, skip: Tensor, up: Tensor, below: Tensor) -> Tensor:
        self.seen = (skip, up, below)
        assert (skip.shape[1], up.shape[1], below.shape[1]) == self.asked
        return up


def test_join_receives_skip_upsampled_map_and_the_map_below():
    like = encoder([4, 8, 16], [1, 2, 4])
    decoder = UNetDecoder(2, like, features=[3, 5], join=Recorder)
    image = maps(like, (8, 8))
    results = decoder(image)
    for i, join in enumerate(reversed(decoder.joins)):
        skip, up, below = join.seen
        assert skip is image[i]
        assert below is results[i + 1]
        torch.testing.assert_close(up, decoder.ups[1 - i](below))
        assert join.asked == (like.features[i], [3, 5][i], [5, 16][i])


def test_with_gating_every_join_sees_the_gated_coarsest_map_of_the_encoder():
    like = encoder([4, 8, 16], [1, 2, 4])
    gating, bottleneck = (partial(ConvBlock, out_channels=n, kernel_size=1) for n in (6, 10))
    decoder = UNetDecoder(2, like, join=Recorder, gating=gating, bottleneck=bottleneck)
    image = maps(like, (8, 8))
    results = decoder(image)
    for join in decoder.joins:
        torch.testing.assert_close(join.seen[2], decoder.gating(image[-1]))
        assert join.asked[2] == 6
    # The bottleneck is what the decoder starts from, and its last map.
    torch.testing.assert_close(results[-1], decoder.bottleneck(image[-1]))
    assert decoder.features == [4, 8, 10]
    assert channels(decoder.ups) == [8, 10]


def test_stages_without_blocks_pass_the_join_on():
    like = encoder([4, 8, 16], [1, 2, 4])
    decoder = UNetDecoder(2, like, depths=[0, 1], join=Add)
    results = decoder(maps(like, (8, 8)))
    assert len(decoder.stages[1]) == 0
    assert [m.shape[1] for m in results] == decoder.features == [4, 8, 16]
    # Concatenated channels stay, whatever was asked of the stage.
    decoder = UNetDecoder(2, like, features=[7, 8], depths=0, up_features="skip")
    assert [m.shape[1] for m in decoder(maps(like, (8, 8)))] == decoder.features == [8, 16, 16]


def test_dense_stages_pass_on_only_what_is_new_until_the_last():
    like = encoder([6, 10, 8], [1, 2, 4])
    # up: 8 and 8 new maps; stacks 8 + 10 + 2 * 4 of which 8 are new, and 8 + 6 + 4 all of which stay.
    stage = partial(DenseStage, growth=4)
    decoder = UNetDecoder(2, like, features=[18, 8], depths=[1, 2], stage=stage, up_features="below")
    assert [stage.first for stage in decoder.stages] == [18, 0]
    assert [m.shape[1] for m in decoder(maps(like, (8, 8)))] == [18, 8, 8]
    with pytest.raises(ValueError, match="dense stage"):
        UNetDecoder(2, like, features=[17, 8], depths=[1, 2], stage=stage, up_features="below")


def test_an_encoder_of_one_map_at_full_resolution_is_passed_on():
    like = encoder([4], [1])
    decoder = UNetDecoder(2, like)
    image = maps(like, (4, 4))
    assert decoder(image)[0] is image[0]
    assert decoder.features == [4]


def test_every_parameter_has_a_gradient_and_the_encoder_is_not_stored():
    whole = nn.Conv2d(1, 1, 1)
    whole.features, whole.strides = [4, 8, 16], [(2, 2), (4, 4), (8, 8)]
    gating = partial(ConvBlock, out_channels=6, kernel_size=1)
    decoder = UNetDecoder(2, whole, join=AttentionGate, gating=gating)
    assert whole not in list(decoder.modules())
    decoder(maps(whole, (16, 32)))[0].square().sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"features": [4, 8]}, "2 features"),
        ({"depths": [1, 1]}, "2 depths"),
        ({"depths": [1, 1, -1]}, "depths"),
        ({"stage": [BlockStage, VNetStage]}, "2 stages"),
        ({"up": [TransposedConv] * 4}, "4 ups"),
        ({"join": [Add] * 3}, "3 joins"),
        ({"up_features": [1, 2]}, "2 up_features"),
        ({"up_features": "half"}, "one of stage, skip, below or numbers"),
        ({"each": {"bias": [True]}}, "bias has 1 values for 3 stages"),
        ({"each": {"bias": [True] * 4}}, "bias has 4 values for 3 stages"),
        ({"finest_stride": 2}, "3 features"),
        ({"encoder": encoder([4, 8], [3, 6])}, "not a power of two"),
        ({"encoder": encoder([4, 8], [6, 12])}, "not a power of two"),
    ],
)
def test_lists_of_wrong_length_are_refused(wrong, why):
    given = {"encoder": encoder([4, 8, 16], [2, 4, 8]), "features": [2, 4, 8]} | wrong
    with pytest.raises(ValueError, match=why):
        UNetDecoder(2, **given)


def test_encoders_describe_their_maps():
    assert finer((1, 1)) == []
    assert finer((8, 2)) == [(1, 1), (2, 1), (4, 1)]
    assert step_between((1, 2, 2), (2, 4, 2)) == (2, 2, 1)
    assert per_stage(None, 2) == [{}, {}]
    assert per_stage({"a": [1, 2], "b": [3, 4]}, 2) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
