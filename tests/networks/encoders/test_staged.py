from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from segment.networks.blocks import ConvBlock, MedNeXtBlock, PreActivationBlock, ResidualBlock
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.resample import MaxPool, StridedConv, TransitionDown
from segment.networks.stages import BlockStage, DenseStage, RecurrentResidualStage, VNetStage

ResidualStage = partial(BlockStage, block=ResidualBlock)
PreActivationStage = partial(BlockStage, block=PreActivationBlock)
MedNeXtStage = partial(BlockStage, block=MedNeXtBlock)

DOWN = {
    "the stage's stride": None,
    "max": MaxPool,
    "strided": StridedConv,
    "transition": TransitionDown,
    "mednext": MedNeXtBlock,
}
STAGES = {
    "conv": BlockStage,
    "residual": ResidualStage,
    "preactivation": PreActivationStage,
    "recurrent": RecurrentResidualStage,
    "mednext": MedNeXtStage,
    "vnet": VNetStage,
}


def convolutions(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Conv3d)]


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("down", DOWN.values(), ids=DOWN)
@settings(max_examples=4, deadline=None)
@given(
    steps=st.lists(st.lists(st.integers(1, 3), min_size=3, max_size=3), min_size=1, max_size=2),
    kernels=st.lists(st.lists(st.sampled_from([1, 3, 5]), min_size=3, max_size=3), min_size=3, max_size=3),
    dims=st.integers(2, 3),
    features=st.lists(st.sampled_from([2, 4, 6]), min_size=3, max_size=3),
)
def test_feature_maps_match_their_description(stage, down, steps, kernels, dims, features):
    if stage is VNetStage and down is None:
        down = MaxPool  # the other stages can be strided
    strides = [1, *(step[:dims] for step in steps)]
    kernels, features = [kernel[:dims] for kernel in kernels[: len(strides)]], features[: len(strides)]
    encoder = StagedEncoder(dims, 3, features, strides, kernels, 1, stage, down).train()
    assert encoder.features == features
    assert encoder.kernel_sizes == [tuple(kernel) for kernel in kernels]
    assert encoder.strides[0] == (1,) * dims
    size = [2 * n for n in encoder.strides[-1]]
    maps = encoder(torch.randn(2, 3, *size))
    assert [tuple(m.shape) for m in maps] == [
        (2, channels, *(n // step for n, step in zip(size, stride, strict=True)))
        for channels, stride in zip(features, encoder.strides, strict=True)
    ]


def test_strides_are_cumulative_and_2_by_default():
    assert StagedEncoder(2, 1, [2, 2, 2, 2]).strides == [(1, 1), (2, 2), (4, 4), (8, 8)]
    assert StagedEncoder(3, 1, [2, 2, 2], [1, [1, 2, 2], 3]).strides == [(1, 1, 1), (1, 2, 2), (3, 6, 6)]
    assert all(type(n) is int for stride in StagedEncoder(2, 1, [2, 2]).strides for n in stride)


def test_stages_downsample_in_their_first_block_or_before_it():
    strided = StagedEncoder(2, 1, [2, 4], depths=3)
    assert [c.stride for c in convolutions(strided.stages[1])] == [(2, 2), (1, 1), (1, 1)]
    assert all(isinstance(way, nn.Identity) for way in strided.downs)
    pooled = StagedEncoder(2, 1, [2, 4], depths=3, down=MaxPool)
    assert {c.stride for c in convolutions(pooled)} == {(1, 1)}
    assert [type(way) for way in pooled.downs] == [nn.Identity, MaxPool]
    # A way that keeps the channels leaves it to the stage to change them.
    assert convolutions(pooled.stages[1])[0].in_channels == 2
    own = StagedEncoder(2, 1, [2, 4], down=StridedConv)
    assert convolutions(own.stages[1])[0].in_channels == 4


def test_depths_are_blocks_in_each_stage():
    assert [len(stage) for stage in StagedEncoder(2, 1, [2, 2, 2], depths=3).stages] == [3, 3, 3]
    assert [len(stage) for stage in StagedEncoder(2, 1, [2, 2, 2], depths=[1, 2, 4]).stages] == [1, 2, 4]


def test_a_stem_comes_first_with_its_own_channels_and_kernel():
    kernels = [[1, 3], [5, 5]]

    def stem(**more):
        encoder = StagedEncoder(2, 3, [4, 6], kernel_sizes=kernels, stem=ConvBlock, **more)
        conv = encoder.stem.conv
        assert encoder(torch.randn(1, 3, 4, 4))[1].shape == (1, 6, 2, 2)
        assert conv.in_channels == 3
        assert convolutions(encoder.stages[0])[0].in_channels == conv.out_channels
        return conv.out_channels, conv.kernel_size

    assert stem() == (4, (1, 3))
    assert stem(stem_features=10) == (10, (1, 3))
    assert stem(stem_kernel_size=1) == (4, (1, 1))
    assert stem(stem_kernel_size=[5, 1]) == (4, (5, 1))
    assert isinstance(StagedEncoder(2, 3, [4, 6]).stem, nn.Identity)


def test_last_stage_may_differ():
    encoder = StagedEncoder(2, 1, [2, 4, 6], bottleneck=partial(BlockStage, dropout=0.5))
    assert [bool([m for m in stage.modules() if isinstance(m, nn.Dropout)]) for stage in encoder.stages] == [
        False,
        False,
        True,
    ]


def test_each_sets_arguments_of_single_stages_and_their_downsampling():
    encoder = StagedEncoder(
        2, 1, [2, 2, 2], stage=MedNeXtStage, down=MedNeXtBlock, stem=ConvBlock, each={"expansion": [2, 3, 5]}
    )
    assert [{b.expand.out_channels for b in stage} for stage in encoder.stages] == [{4}, {6}, {10}]
    assert [way.expand.out_channels for way in encoder.downs[1:]] == [6, 10]


def test_dense_stages_grow_by_their_depths():
    encoder = StagedEncoder(
        2,
        3,
        [10 + 2 * 4, 18 + 3 * 4, 1 * 4],
        depths=[2, 3, 1],
        stage=partial(DenseStage, growth=4),
        down=TransitionDown,
        stem=ConvBlock,
        stem_features=10,
    )
    assert [m.shape[1] for m in encoder(torch.randn(2, 3, 8, 8))] == encoder.features == [18, 30, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": []},
        {"strides": [1, 2]},
        {"strides": [1, 2, [2, 2, 2]]},
        {"kernel_sizes": [3, 3, 3, 3]},
        {"kernel_sizes": [3, [3], 3]},
        {"depths": [2, 2]},
        {"depths": 0},
        {"depths": [1, -1, 2]},
        {"strides": [2, 2, 2]},  # its finest map, and the logits, would be half the image's size
        {"strides": [[1, 2], 2, 2], "down": MaxPool},
        {"each": {"bias": [True, False]}},
    ],
)
def test_lists_of_wrong_length_are_refused(wrong):
    with pytest.raises(ValueError, match=r"differ|axes|strides|values for 3 stages|depths"):
        StagedEncoder(2, 1, **{"features": [2, 4, 6]} | wrong)
