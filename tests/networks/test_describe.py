"""Operations equal those counted by hand, and the parts of a network add up to the whole."""

from functools import partial

import pytest
import torch
from monai.networks.nets import DynUNet, SwinUNETR
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from segment.networks.blocks import ConvBlock, ResidualBlock
from segment.networks.decoders.nested import NestedDecoder
from segment.networks.decoders.unet import UNetDecoder
from segment.networks.decoders.unetr import UNETRDecoder
from segment.networks.describe import build, describe, training_operations, usual_size
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.encoders.vit import SelfAttention, ViT
from segment.networks.meta import on_meta
from segment.networks.padding import PadToDivisor, count_parameters
from segment.networks.resample import MaxPool
from segment.networks.stages import BlockStage
from segment.networks.unet import UNet

ResidualStage = partial(BlockStage, block=ResidualBlock)

STAGED = partial(StagedEncoder, features=[4, 8, 16])
PLAIN = partial(UNet, encoder=STAGED, decoder=UNetDecoder)
VIT = partial(ViT, patch_size=4, hidden=8, depth=2, heads=2, mlp=16, image_size=16, taps=(1, 2))
NETWORKS = {
    "plain": PLAIN,
    "stem, pool and residual stages": partial(
        UNet,
        encoder=partial(STAGED, stem=ConvBlock, down=MaxPool, stage=ResidualStage),
        decoder=UNetDecoder,
        deep_supervision=1,
    ),
    "nested, averaged": partial(UNet, encoder=STAGED, decoder=NestedDecoder, deep_supervision=1, average=True),
    "transformer": partial(UNet, encoder=VIT, decoder=partial(UNETRDecoder, features=[4, 8])),
    "classic": partial(UNet, encoder="resnet18", decoder=UNetDecoder),
    "MONAI, blocks under two names": partial(
        PadToDivisor,
        partial(DynUNet, kernel_size=[3] * 3, strides=[1, 2, 2], upsample_kernel_size=[2] * 2, filters=[4, 6, 8]),
        4,
    ),
    "MONAI, windows of attention": partial(PadToDivisor, partial(SwinUNETR, feature_size=12, depths=[1, 1, 1, 1]), 32),
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


class Attention(nn.Module):
    """Self-attention over the voxels of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SelfAttention(6, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.attention(image.flatten(2).transpose(1, 2))


N = 5 * 7  # voxels


@pytest.mark.parametrize(
    ("layer", "operations"),
    [
        (partial(nn.Conv2d, 6, 10, 3, padding=1), 2 * 6 * 10 * 9 * N),
        (partial(nn.Conv2d, 6, 10, 3, padding=1, bias=False), 2 * 6 * 10 * 9 * N),
        (partial(nn.Conv2d, 6, 12, 3, padding=1, groups=6), 2 * 12 * 9 * N),
        (partial(nn.Conv2d, 6, 10, 1, stride=2), 2 * 6 * 10 * 3 * 4),
        (partial(nn.ConvTranspose2d, 6, 10, 2, stride=2), 2 * 6 * 10 * 4 * N),
        (partial(nn.Linear, 7, 3), 2 * 6 * 5 * 7 * 3),
        (Attention, 2 * N * 6 * 18 + 2 * 2 * N * N * 6 + 2 * N * 6 * 6),
        (partial(nn.Sequential, nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(), nn.MaxPool2d(2)), 0),
    ],
)
def test_operations_are_counted_by_arithmetic(layer, operations):
    with on_meta():
        network = layer().to("meta")
    assert describe(network, 2, (5, 7), channels=6).operations == operations


@pytest.mark.parametrize(
    ("layer", "operations"),
    [
        (partial(nn.Conv2d, 6, 10, 3, padding=1), 2 * 6 * 10 * 9 * N),
        (partial(nn.Conv2d, 6, 12, 3, padding=1, groups=6), 2 * 12 * 9 * N),
        (partial(nn.Conv2d, 6, 10, 1, stride=2), 2 * 6 * 10 * 3 * 4),
        (partial(nn.ConvTranspose2d, 6, 10, 2, stride=2), 2 * 6 * 10 * 4 * N),
        (partial(nn.ConvTranspose2d, 6, 12, 2, stride=2, groups=3), 2 * 6 * 4 * 4 * N),
        (partial(nn.Linear, 7, 3), 2 * 6 * 5 * 7 * 3),
        (partial(nn.Sequential, nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(), nn.MaxPool2d(2)), 0),
    ],
)
def test_a_training_step_costs_each_layer_thrice_but_the_first_twice(layer, operations):
    first = 2 * 4 * 6 * N  # of the image no gradient is taken
    assert training_operations(nn.Sequential(nn.Conv2d(4, 6, 1), layer()), (3, 4, 5, 7)) == 3 * (
        2 * first + 3 * operations
    )


@every_network
def test_a_training_step_is_counted_without_a_trace(network):
    real = network(spatial_dims=2, in_channels=1, out_channels=2).train()
    for parameter in real.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in real.state_dict().items()}
    kept, drawn = [set(vars(module)) for module in real.modules()], torch.get_rng_state()
    counted = training_operations(real, (2, 1, 64, 64))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [set(vars(module)) for module in real.modules()] == kept
    assert real.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in real.state_dict().items())
    assert all((parameter.grad == 1).all() for parameter in real.parameters())
    # None of these has groups, which torch's own formula forgets; nor does it know the processor's fused attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        outputs = real(torch.zeros(2, 1, 64, 64))
        sum(output.sum() for output in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)).backward()
    assert counted == counter.get_total_flops() > 0


def test_a_network_that_needs_numbers_is_not_counted():
    class Needy(nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) if image.mean().item() > 0 else image

    assert training_operations(Needy(1, 1, 1), (1, 1, 4, 4)) is None


def test_a_u_net_part_by_part_by_arithmetic():
    found = describe(build(partial(PLAIN, encoder=partial(StagedEncoder, features=[4, 8])), 3), 3, (8, 8, 12))
    voxels, coarse = 8 * 8 * 12, 4 * 4 * 6
    # Two convolutions of 3x3x3 a stage with bias, each with the scale and shift of its norm.
    stages = {(1, 4): 27 * (4 + 16), (4, 8): 27 * (32 + 64), (8, 4): 27 * (32 + 16)}
    expected = [
        ("encoder.stages.0", 4, (1, 1, 1), (8, 8, 12), stages[1, 4] + 2 * 3 * 4, 2 * stages[1, 4] * voxels),
        ("encoder.stages.1", 8, (2, 2, 2), (4, 4, 6), stages[4, 8] + 2 * 3 * 8, 2 * stages[4, 8] * coarse),
        (
            "decoder.ups.0, joins.0, stages.0",
            *(4, (1, 1, 1), (8, 8, 12)),
            8 * 4 * 8 + 4 + stages[8, 4] + 2 * 3 * 4,
            2 * (8 * 4 * 8 * coarse + stages[8, 4] * voxels),
        ),
        ("heads.0", 2, (1, 1, 1), (8, 8, 12), 4 * 2 + 2, 2 * 8 * voxels),
    ]
    assert [tuple(vars(part).values()) for part in found.parts] == expected
    assert (found.divisor, found.size, found.deep_supervision) == ((2, 2, 2), (8, 8, 12), 0)
    assert found.operations == sum(part[-1] for part in expected)
    assert found.operations_per_voxel == round(found.operations / voxels)


@every_network
def test_skipped_computations_do_not_change_the_count(network):
    made = build(network, 2)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        made(torch.empty(1, 1, 64, 64, device="meta"))
    assert describe(made, 2, (64, 64)).operations == counter.get_total_flops() > 0


@every_network
def test_meta_network_has_the_same_tensors(network):
    made, real = build(network, 2), network(spatial_dims=2, in_channels=1, out_channels=2)
    assert all(value.is_meta for value in made.state_dict().values())
    shapes = [{name: (value.shape, value.dtype) for name, value in n.state_dict().items()} for n in (made, real)]
    assert shapes[0] == shapes[1]
    assert describe(made, 2, (64, 64)).parameters == count_parameters(real)


@every_network
@pytest.mark.parametrize("dims", [2, 3])
def test_parts_add_up_to_the_network_and_end_at_the_image(network, dims):
    made = build(network, dims)
    found = describe(made, dims, (64,) * dims)
    assert sum(part.parameters for part in found.parts) == found.parameters == count_parameters(made)
    assert sum(part.operations for part in found.parts) == found.operations
    assert all(part.parameters >= 0 and part.operations >= 0 for part in found.parts)
    assert len({part.name for part in found.parts}) == len(found.parts)
    ran = [part for part in found.parts if part.size]
    assert (ran[-1].channels, ran[-1].stride, ran[-1].size) == (2, (1,) * dims, (64,) * dims)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.modules())


@pytest.mark.parametrize(
    "encoder", ["alexnet", "vgg11", "resnet18", "densenet121", "mobilenet_v2", "efficientnet", STAGED]
)
def test_each_map_of_an_encoder_and_of_its_decoder_is_a_part(encoder):
    network = build(partial(UNet, encoder=encoder, decoder=UNetDecoder), 2)
    found = describe(network, 2).parts
    for side, maps in (("encoder", network.encoder), ("decoder", network.decoder)):
        parts = [(part.channels, part.stride) for part in found if part.name.startswith(side)]
        wanted = list(zip(maps.features, maps.strides, strict=True))
        if side == "decoder":
            wanted = wanted[-2::-1]  # the coarsest is the encoder's
        assert [part for part in parts if part in wanted] == wanted, f"{parts} lack one of {wanted}"
        assert len(parts) <= len(wanted) + 1


def test_heads_used_only_in_training_are_marked():
    found = describe(build(partial(PLAIN, deep_supervision=2), 2), 2)
    assert found.deep_supervision == 2
    last = found.parts[-1]
    assert (last.name, last.size, last.operations) == ("heads.1..2 (not in evaluation)", None, 0)
    assert last.parameters == (8 * 2 + 2) + (16 * 2 + 2)


@pytest.mark.parametrize(
    ("divisor", "size"),
    [
        ((32, 32), (192, 192)),
        ((32, 32, 32), (96, 96, 96)),
        ((5, 1, 1), (100, 96, 96)),
        ((64, 64, 64), (128, 128, 128)),
        ((128, 128, 128), (256, 256, 256)),
    ],
)
def test_networks_are_compared_at_a_size_that_they_take_without_padding(divisor, size):
    assert usual_size(divisor) == size


def test_required_padding_is_counted():
    network = build(PLAIN, 2)
    assert describe(network, 2, (13, 14)).operations == describe(network, 2, (16, 16)).operations


def test_a_network_of_any_size_is_described_without_memory():
    found = describe(build(partial(UNet, encoder=partial(STAGED, features=[60_000] * 3), decoder=UNetDecoder), 3), 3)
    assert found.parameters > 10**11
    assert found.operations_per_voxel > 10**11


def test_meta_constructors_read_real_numbers_but_no_weights():
    with on_meta():
        assert torch.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
        assert torch.linspace(0, 1, steps=3).tolist() == [0, 0.5, 1]
        assert torch.linspace(0, 1, 3, device="meta").is_meta
        assert nn.init.trunc_normal_(nn.Linear(10**6, 10**6).weight).is_meta
        with pytest.raises(ValueError, match="4294967296 values"):
            torch.linspace(0, 1, 1 << 32)
    assert not torch.empty(1).is_meta
    assert torch.linspace(0, 1, 1 << 17).shape == (1 << 17,)
    assert torch.ones(3).normal_(5, 0.1).sum() > 10


def test_decoder_stages_at_one_resolution_are_distinguished():
    network = build(partial(UNet, encoder="resnet18_pooled", decoder=partial(UNetDecoder, finest_stride=2)), 2)
    names = [part.name for part in describe(network, 2).parts]
    assert {"decoder.ups.2, joins.2, stages.2", "decoder.ups.3, joins.3, stages.3"} <= set(names)
