from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from segment.networks.blocks import ConvBlock
from segment.networks.decoders.full_scale import FullScaleDecoder
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.heads import ConvHead
from segment.networks.padding import count_parameters
from segment.networks.resample import MaxPool
from segment.networks.stages import BlockStage
from segment.networks.unet import UNet

FLAT = SimpleNamespace(features=[2, 3, 4, 5], strides=[(1, 1), (2, 2), (4, 4), (8, 8)])
THICK = SimpleNamespace(
    features=[2, 3, 4], strides=[(1, 1, 1), (1, 2, 2), (2, 4, 4)], kernel_sizes=[(1, 3, 3), (3, 1, 1), (3, 3, 3)]
)
both = pytest.mark.parametrize("like", [FLAT, THICK], ids=["flat", "thick"])


def maps(like: SimpleNamespace) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [[2 * n // s for n, s in zip(like.strides[-1], stride, strict=True)] for stride in like.strides]
    return [torch.randn(2, c, *size, generator=generator) for c, size in zip(like.features, sizes, strict=True)]


@both
def test_every_stage_reads_the_encoder_at_its_scale_and_finer_and_the_decoder_where_coarser(like):
    dims, n = len(like.strides[0]), len(like.features)
    decoder = FullScaleDecoder(dims, like, width=6)
    fused: dict[int, Tensor] = {}
    for i, fusion in enumerate(decoder.fusions):
        fusion.register_forward_hook(lambda _, args, result, i=i: fused.update({i: args[0]}))
    image = maps(like)
    results = decoder(image)
    pool = {2: functional.max_pool2d, 3: functional.max_pool3d}[dims]
    linear = {2: "bilinear", 3: "trilinear"}[dims]
    for i in range(n - 1):
        parts = []
        for k in range(n):
            step = [max(a, b) // min(a, b) for a, b in zip(like.strides[i], like.strides[k], strict=True)]
            if k < i:
                source = pool(image[k], step)
            elif k == i:
                source = image[k]
            else:  # the stage of that scale; at the coarsest one the encoder's map is all there is
                source = functional.interpolate(results[k], scale_factor=tuple(map(float, step)), mode=linear)
            block = decoder.branches[i * n + k][-1]
            assert block.conv.in_channels == source.shape[1]
            assert block.conv.out_channels == 6
            parts.append(block(source))
        torch.testing.assert_close(fused[i], torch.cat(parts, dim=1))
        torch.testing.assert_close(results[i], decoder.fusions[i](torch.cat(parts, dim=1)))
    assert results[-1] is image[-1]


@both
def test_feature_maps_match_their_description(like):
    decoder = FullScaleDecoder(len(like.strides[0]), like, width=5)
    image = maps(like)
    results = decoder(image)
    n = len(like.features)
    assert decoder.features == [5 * n] * (n - 1) + [like.features[-1]] == [m.shape[1] for m in results]
    assert decoder.strides == like.strides
    assert [m.shape[2:] for m in results] == [m.shape[2:] for m in image]
    results[0].square().sum().backward()
    assert all(p.grad is not None for p in decoder.parameters())
    kernels = getattr(like, "kernel_sizes", [(3, 3)] * n)
    assert [f[0].conv.kernel_size for f in decoder.fusions] == kernels[:-1]
    assert [b[-1].conv.kernel_size for b in decoder.branches] == [k for k in kernels[:-1] for _ in range(n)]


def test_list_of_maps_is_not_modified():
    image = maps(FLAT)
    before = list(image)
    FullScaleDecoder(2, FLAT, width=4)(image)
    assert all(a is b for a, b in zip(image, before, strict=True))


def test_an_encoder_that_starts_coarse_is_refused():
    with pytest.raises(ValueError, match="image's resolution"):
        FullScaleDecoder(2, SimpleNamespace(features=[2, 4], strides=[(2, 2), (4, 4)]))


@pytest.mark.parametrize(
    ("in_channels", "deep_supervision", "count"), [(1, 0, 26_970_625), (3, 0, 26_971_777), (1, 4, 26_988_485)]
)
def test_parameters_equal_those_of_the_authors(in_channels, deep_supervision, count):
    # Counted on models/UNet_3Plus.py of ZJUGiveLab/UNet-Version, commit 8ecd067, for one class; 26.97 M in the paper.
    style = {"norm": "batch", "act": "relu"}
    stage = partial(BlockStage, **style)
    encoder = partial(StagedEncoder, features=[64, 128, 256, 512, 1024], stage=stage, down=MaxPool)
    decoder = partial(FullScaleDecoder, block=partial(ConvBlock, **style))
    head = partial(ConvHead, kernel_size=3)
    with torch.device("meta"):
        network = UNet(2, in_channels, 1, encoder, decoder, deep_supervision=deep_supervision, head=head)
    assert count_parameters(network) == count
