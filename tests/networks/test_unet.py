from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from segment.networks.decoders.unet import UNetDecoder
from segment.networks.encoders.classic import CLASSIC
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.heads import ConvHead, UpHead, VNetHead
from segment.networks.padding import count_parameters
from segment.networks.resample import MaxPool
from segment.networks.stages import BlockStage, Stage
from segment.networks.unet import UNet


def tiny(dims: int = 2, deep_supervision: int = 0, decoder: dict | None = None, **encoder) -> UNet:
    torch.manual_seed(0)
    return UNet(
        dims,
        1,
        3,
        partial(StagedEncoder, **{"features": [4, 6, 8, 10]} | encoder),
        partial(UNetDecoder, **decoder or {}),
        deep_supervision=deep_supervision,
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_coarser_logits_are_returned_only_in_training(dims):
    network = tiny(dims, deep_supervision=2)
    image = torch.rand(1, 1, *[16] * dims)
    outputs = network.train()(image)
    assert [tuple(o.shape) for o in outputs] == [(1, 3, *[size] * dims) for size in (16, 8, 4)]
    whole = network.eval()(image)
    assert isinstance(whole, torch.Tensor)
    torch.testing.assert_close(whole, outputs[0])
    assert isinstance(tiny(dims).train()(image), torch.Tensor)


def test_coarser_logits_cover_the_image_and_not_its_padding():
    # 18 is padded to 24: 12 and 6 voxels of which 9 and 5 lie on the image; a reference is stretched over all of them.
    outputs = tiny(deep_supervision=2).train()(torch.rand(1, 1, 18, 16))
    assert [tuple(o.shape[2:]) for o in outputs] == [(18, 16), (9, 8), (5, 4)]


def test_deep_supervision_reaches_the_coarsest_map_with_its_own_strides():
    network = tiny(3, deep_supervision=3, strides=[1, [1, 2, 2], 2, [1, 2, 1]]).train()
    outputs = network(torch.rand(2, 1, 5, 11, 12))
    assert [tuple(o.shape[2:]) for o in outputs] == [(5, 11, 12), (5, 6, 6), (3, 3, 3), (3, 2, 3)]


@settings(max_examples=20, deadline=None)
@given(size=st.lists(st.integers(1, 19), min_size=2, max_size=3), deep=st.integers(0, 2), batch=st.integers(1, 2))
def test_output_has_the_size_of_any_input(size, deep, batch):
    # Also a size whose coarsest map would have one voxel, which no instance norm takes while training.
    network = tiny(len(size), deep_supervision=deep).train()
    logits = network(torch.rand(batch, 1, *size))
    first = logits[0] if deep else logits
    assert first.shape == (batch, 3, *size)
    assert torch.isfinite(first).all()
    assert network.eval()(torch.rand(batch, 1, *size)).shape == (batch, 3, *size)


def test_each_head_reads_the_decoder_stage_of_its_resolution():
    network = tiny(deep_supervision=2).train()
    network(torch.rand(1, 1, 16, 16))[2].sum().backward()
    assert [head[0].weight.grad is not None for head in network.heads] == [False, False, True]
    stages = [stage[0].conv.weight.grad is not None for stage in network.decoder.stages]
    assert stages == [True, False, False]
    assert [head[0].in_channels for head in network.heads] == [4, 6, 8]


def test_anisotropic_strides_and_kernels():
    network = tiny(3, features=[4, 6, 8], strides=[1, [1, 2, 2], 2], kernel_sizes=[[1, 3, 3], 3, [3, 1, 5]])
    assert network.divisor == (2, 4, 4)
    assert [stage[0].conv.kernel_size for stage in network.encoder.stages] == [(1, 3, 3), (3, 3, 3), (3, 1, 5)]
    assert [stage[0].conv.stride for stage in network.encoder.stages] == [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
    assert [stage[0].conv.kernel_size for stage in network.decoder.stages] == [(3, 3, 3), (1, 3, 3)]
    assert [up[0].stride for up in network.decoder.ups] == [(2, 2, 2), (1, 2, 2)]
    assert network(torch.rand(1, 1, 5, 9, 11)).shape == (1, 3, 5, 9, 11)


def test_arguments_set_the_number_of_convolutions():
    network = tiny(depths=3, decoder={"depths": 1})
    assert [len(stage) for stage in network.encoder.stages] == [3, 3, 3, 3]
    assert [len(stage) for stage in network.decoder.stages] == [1, 1, 1]


def test_arguments_set_norm_activation_and_dropout():
    stage = partial(BlockStage, norm="batch", act=["relu", {"inplace": False}], dropout=0.25)
    network = tiny(stage=stage, decoder={"stage": stage})
    kinds = {type(module) for module in network.modules()}
    assert nn.BatchNorm2d in kinds
    assert nn.ReLU in kinds
    assert not kinds & {nn.InstanceNorm2d, nn.LeakyReLU}
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)} == {0.25}


@pytest.mark.parametrize(
    "wrong",
    [
        {"strides": [1, 2, 2]},
        {"kernel_sizes": [3, 3, 3, 3, 3]},
        {"strides": [1, [2, 2, 2], 2, 2]},
        {"kernel_sizes": [3, [3], 3, 3]},
        {"strides": [2, 2, 2, 2]},  # its logits would be half the image's size
        {"features": []},
        {"deep_supervision": 4},
        {"deep_supervision": -1},
        {"decoder": {"features": [2, 2]}},
    ],
)
def test_lists_of_wrong_length_are_refused(wrong):
    with pytest.raises(ValueError, match=r"differ|axes|strides|deep_supervision|do not fit"):
        tiny(**wrong)


def test_an_encoder_may_be_named():
    network = UNet(2, 3, 2, "resnet18", UNetDecoder).eval()
    assert network.divisor == (32, 32)
    assert network(torch.rand(1, 3, 40, 33)).shape == (1, 2, 40, 33)
    with pytest.raises(ValueError, match=r"encoder='resnet19'") as refusal:
        UNet(2, 3, 2, "resnet19", UNetDecoder)
    assert all(name in str(refusal.value) for name in CLASSIC)


class Half(nn.Module):
    """An encoder whose image must be a multiple of 6, more than its strides say."""

    features, strides, divisor = [1, 1], [(1, 1), (2, 2)], (6, 6)

    def __init__(self, spatial_dims: int, in_channels: int) -> None:
        super().__init__()

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        assert not any(n % 6 for n in image.shape[2:])
        return [image, functional.avg_pool2d(image, 2)]


def test_an_encoder_may_ask_for_more_than_its_strides():
    network = UNet(2, 1, 2, Half, UNetDecoder)
    assert network.divisor == (6, 6)
    assert network(torch.rand(1, 1, 7, 12)).shape == (1, 2, 7, 12)


def test_all_convolutions_may_start_from_he_normal():
    def start(slope: float | None) -> UNet:
        torch.manual_seed(0)
        encoder = partial(StagedEncoder, features=[32, 64, 128])
        return UNet(2, 16, 32, encoder, UNetDecoder, he_slope=slope)

    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    for slope in (0.0, 0.01, 1.0):
        for module in start(slope).modules():
            if isinstance(module, convolutions):
                weight = module.weight.detach()
                # torch's fan of a transposed convolution counts the channels it gives, as nnU-Net's start does.
                expected = (2 / (1 + slope**2) / weight[0].numel()) ** 0.5
                torch.testing.assert_close(float(weight.std()), expected, rtol=0.1, atol=0)
                assert abs(float(weight.mean())) < 0.1 * expected
                # A normal distribution's tails; torch's own start is uniform within 1.73 standard deviations.
                assert weight.abs().max() > 2.5 * expected
                assert not module.bias.any()
    assert any(m.bias.any() for m in start(None).modules() if isinstance(m, convolutions))


@pytest.mark.parametrize("dims", [2, 3])
def test_heads(dims):
    image = torch.rand(1, 4, *[6] * dims)
    assert ConvHead(dims, 4, 3)(image).shape == (1, 3, *[6] * dims)
    assert ConvHead(dims, 4, 3)[0].kernel_size == (1,) * dims
    assert ConvHead(dims, 4, 3, kernel_size=5)(image).shape == (1, 3, *[6] * dims)
    assert UpHead(dims, 4, 3)(image).shape == (1, 3, *[12] * dims)
    head = VNetHead(dims, 4, 3)
    assert head(image).shape == (1, 3, *[6] * dims)
    first, last = head
    assert first.conv.kernel_size == (5,) * dims
    torch.testing.assert_close(head(image), last(functional.prelu(first.conv(image), first.adn.A.weight)))


def test_a_head_that_doubles_the_resolution_goes_with_a_decoder_that_ends_at_half():
    def make(**more):
        decoder = partial(UNetDecoder, finest_stride=2)
        return UNet(2, 3, 2, "resnet18", decoder, head=UpHead, **more)

    assert make().eval()(torch.rand(1, 3, 40, 33)).shape == (1, 2, 40, 33)
    with pytest.raises(ValueError, match="deep_supervision"):
        make(deep_supervision=1)


def test_checkpointing_reaches_every_stage_and_changes_nothing():
    image = torch.rand(2, 1, 16, 16)
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = partial(StagedEncoder, features=[4, 6, 8], down=MaxPool)
        network = UNet(2, 1, 3, encoder, UNetDecoder, deep_supervision=1, checkpointing=checkpointing).train()
        assert {m.checkpointing for m in network.modules() if isinstance(m, Stage)} == {checkpointing}
        logits = network(image)
        sum(one.square().sum() for one in logits).backward()
        results.append([*logits, *(p.grad for p in network.parameters())])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_construction_on_the_meta_device_reads_no_values():
    with torch.device("meta"):
        network = tiny(3, deep_supervision=2)
    assert all(p.is_meta for p in network.parameters())
    assert network.train()(torch.rand(1, 1, 9, 9, 9, device="meta"))[0].shape == (1, 3, 9, 9, 9)


def test_parameters_are_those_of_nnunet_on_the_hippocampus():
    # nnU-Net 2.8.1's 3d_fullres plan of Task04 has 5,603,177 parameters. It builds a head at each of its three decoder
    # stages (32, 64 and 128 channels) also where deep supervision is off, so ours has deep_supervision=2 here.
    features = [32, 64, 128, 256]

    def block(channels_in: int, channels: int) -> int:
        return 27 * channels_in * channels + channels + 2 * channels  # weights, bias, affine norm

    encoder = sum(block(a, b) + block(b, b) for a, b in pairwise([1, *features]))
    decoder = sum(block(2 * c, c) + block(c, c) for c in features[:-1])
    up = sum(8 * b * a + a for a, b in pairwise(features))
    heads = sum(3 * c + 3 for c in features[:-1])
    network = tiny(3, features=features, deep_supervision=2)
    assert count_parameters(network.encoder) == encoder
    assert count_parameters(network.decoder.stages) == decoder
    assert count_parameters(network.decoder.ups) == up
    assert count_parameters(network.heads) == heads
    assert count_parameters(network) == 5_603_177
