"""With the weights of an original implementation, our networks compute the logits of the original.

nnU-Net's networks come from its authors' package dynamic-network-architectures (tests/requirements-no-deps.txt),
DynUNet and MedNeXt from MONAI.
"""

import importlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from monai.networks.nets import DynUNet
from monai.networks.nets.mednext import MedNeXt, create_mednext
from torch import Tensor, nn

from segment.config.compose import compose
from segment.networks.decoders.unet import UNetDecoder
from segment.networks.encoders.staged import StagedEncoder
from segment.networks.padding import count_parameters
from segment.networks.resample import TransposedConv
from segment.networks.stages import BlockStage
from segment.networks.unet import UNet

Pairs = Iterable[tuple[nn.Module, nn.Module]]

# A network of three dimensions whose first steps leave the slices alone, as nnU-Net plans it for thick slices; one in
# three dimensions with cubes everywhere; one in two.
SHAPES = {
    "thick": {
        "dims": 3,
        "features": [4, 6, 8, 10],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
        "kernels": [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "size": (4, 16, 24),
    },
    "cubes": {
        "dims": 3,
        "features": [4, 6, 8],
        "strides": [[1] * 3, [2] * 3, [2] * 3],
        "kernels": [[3] * 3] * 3,
        "size": (8, 8, 12),
    },
    "plane": {
        "dims": 2,
        "features": [4, 8, 8, 6],
        "strides": [[1, 1], [2, 2], [2, 1], [2, 2]],
        "kernels": [[3, 3], [3, 3], [3, 1], [3, 3]],
        "size": (16, 12),
    },
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def named_network(name: str, *changes: str) -> Callable[..., UNet]:
    """The network of conf/network/NAME.yaml."""
    config = compose("train", [f"network={name}", *changes])
    made: Callable[..., UNet] = instantiate(config.network, _convert_="all")
    return made


def copy_weights(theirs: nn.Module, ours: nn.Module, pairs: Pairs) -> None:
    """Draw the weights of ``theirs`` and copy them, part by part in order of registration; no part may be left out."""
    generator = torch.Generator().manual_seed(1)
    left = {name for name, _ in ours.named_parameters()}
    names = {parameter: name for name, parameter in ours.named_parameters()}
    copied: set[nn.Parameter] = set()
    with torch.no_grad():
        for source, target in pairs:
            sources, targets = list(source.parameters()), list(target.parameters())
            for old in sources:
                # Not the original's start, whose zeros in each block's last norm would hide the convolutions.
                old.normal_(0, old[0].numel() ** -0.5 if old.ndim > 1 else 0.5, generator=generator)
            copied.update(sources)
            assert len(sources) == len(targets)
            for old, new in zip(sources, targets, strict=True):
                # MedNeXt's heads are 1x1 transposed convolutions: convolutions with the first axes exchanged.
                value = old if old.shape == new.shape or old.ndim < 2 else old.transpose(0, 1)
                assert value.shape == new.shape
                new.copy_(value)
                left.remove(names[new])
    assert not left
    assert copied == set(theirs.parameters())


def assert_equal_logits(theirs: Callable[[Tensor], Any], ours: UNet, *size: int) -> list[Tensor]:
    """Compare the logits on noise, and the gradients of the image under all of them."""
    image = torch.randn(size, generator=torch.Generator().manual_seed(2))
    results, gradients = [], []
    for network in (theirs, ours):
        seen = image.clone().requires_grad_()
        logits = network(seen)
        results.append([logits] if isinstance(logits, Tensor) else list(logits))
        sum((one**2).mean() for one in results[-1]).backward()
        gradients.append(seen.grad)
    assert len(results[0]) == len(results[1])
    assert all(logits.std() > 0.1 for logits in results[0])  # a constant would agree with anything
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-4 * float(gradients[0].abs().max()))
    return results[1]


def strided(shape: dict[str, Any]) -> list[str]:
    return [
        f"network.encoder.features={shape['features']}",
        f"network.encoder.strides={shape['strides']}",
        f"network.encoder.kernel_sizes={shape['kernels']}",
    ]


@pytest.fixture(scope="module")
def nnunet() -> Any:
    """The module of nnU-Net's own networks; it may be missing, but not in CI."""
    name = "dynamic_network_architectures.architectures.unet"
    if os.environ.get("CI") == "true":
        return importlib.import_module(name)
    why = "nnU-Net's own networks are missing: pip install --no-deps -r tests/requirements-no-deps.txt"
    return pytest.importorskip(name, reason=why)


def original_nnunet(kind: Any, shape: dict[str, Any], blocks: list[int], decoder_depth: int, **more: Any) -> nn.Module:
    """The original for two channels and three classes, with deep supervision and nnU-Net's own settings."""
    dims = shape["dims"]
    made: nn.Module = kind(
        2,
        len(shape["features"]),
        shape["features"],
        {2: nn.Conv2d, 3: nn.Conv3d}[dims],
        shape["kernels"],
        shape["strides"],
        blocks,
        3,
        decoder_depth,
        conv_bias=True,
        norm_op={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **more,
    )
    return made


def nnunet_pairs(theirs: Any, ours: Any) -> list[tuple[nn.Module, nn.Module]]:
    return [
        *zip(theirs.encoder.stages, ours.encoder.stages, strict=True),
        *zip(theirs.decoder.transpconvs, ours.decoder.ups, strict=True),
        *zip(theirs.decoder.stages, ours.decoder.stages, strict=True),
        *zip(reversed(theirs.decoder.seg_layers), ours.heads, strict=True),
    ]


def check_nnunet(theirs: Any, ours: UNet, pairs: Pairs, shape: dict[str, Any]) -> None:
    copy_weights(theirs, ours, pairs)
    coarser = assert_equal_logits(theirs.train(), ours.train(), 2, 2, *shape["size"])
    assert len(coarser) == len(shape["features"]) - 1
    theirs.decoder.deep_supervision = False
    assert_equal_logits(theirs.eval(), ours.eval(), 1, 2, *shape["size"])


@every_shape
def test_nnunet_plain_is_the_authors(nnunet, shape):
    stages = len(shape["features"])
    theirs = original_nnunet(nnunet.PlainConvUNet, shape, [2] * stages, 2)
    made = named_network("nnunet_plain", *strided(shape), f"network.deep_supervision={stages - 2}")
    ours = made(spatial_dims=shape["dims"], in_channels=2, out_channels=3)
    check_nnunet(theirs, ours, nnunet_pairs(theirs, ours), shape)


@every_shape
@pytest.mark.parametrize("bottleneck", [1, 2])
def test_nnunet_resenc_is_the_authors(nnunet, shape, bottleneck):
    blocks = [1, 3, 4, 6][: len(shape["features"])]
    more: dict[str, Any] = {}
    if bottleneck > 1:
        more = {"block": nnunet.BottleneckD, "bottleneck_channels": [f // bottleneck for f in shape["features"]]}
    theirs = original_nnunet(nnunet.ResidualEncoderUNet, shape, blocks, 1, **more)
    made = named_network(
        "nnunet_resenc_m",
        *strided(shape),
        f"network.encoder.depths={blocks}",
        f"network.deep_supervision={len(blocks) - 2}",
        f"+network.encoder.stage.bottleneck={bottleneck}",
    )
    ours: Any = made(spatial_dims=shape["dims"], in_channels=2, out_channels=3)
    pairs = [(theirs.encoder.stem, ours.encoder.stem), *nnunet_pairs(theirs, ours)]
    check_nnunet(theirs, ours, pairs, shape)


def test_nnunet_resenc_starts_as_the_authors(nnunet):
    shape = SHAPES["cubes"]
    theirs: Any = original_nnunet(nnunet.ResidualEncoderUNet, shape, [1, 3, 4], 1)
    theirs.apply(theirs.initialize)
    made = named_network(
        "nnunet_resenc_m", *strided(shape), "network.encoder.depths=[1,3,4]", "network.deep_supervision=1"
    )
    ours: Any = made(spatial_dims=3, in_channels=2, out_channels=3)
    pairs = [(theirs.encoder.stem, ours.encoder.stem), *nnunet_pairs(theirs, ours)]
    for source, target in pairs:
        for old, new in zip(source.parameters(), target.parameters(), strict=True):
            if old.ndim == 1:  # biases and norms start from constants
                torch.testing.assert_close(new, old, rtol=0, atol=0)
            elif old.numel() > 500:
                torch.testing.assert_close(new.std(), old.std(), rtol=0.2, atol=0)


def test_the_published_nnunet_of_the_hippocampus_has_as_many_parameters():
    # nnU-Net 2.8.1's 3d_fullres plan of Task04: 5,603,177 parameters, with a head at each of its three decoder stages.
    made = named_network("nnunet_plain", "network.encoder.features=[32,64,128,256]", "network.deep_supervision=2")
    with torch.device("meta"):
        assert count_parameters(made(spatial_dims=3, in_channels=1, out_channels=3)) == 5_603_177


@every_shape
def test_without_biases_it_is_monais_dynunet(shape):
    # DynUNet's decoder takes the kernel of the stage below, nnU-Net's that of the skip: they agree for equal kernels.
    dims, features, strides = shape["dims"], shape["features"], shape["strides"]
    deep = len(features) - 2
    theirs: Any = DynUNet(
        dims, 2, 3, [3] * len(features), strides, strides[1:], features, deep_supervision=True, deep_supr_num=deep
    )
    stage = partial(BlockStage, bias=False)
    ours: Any = UNet(
        dims,
        2,
        3,
        partial(StagedEncoder, features=features, strides=strides, stage=stage),
        partial(UNetDecoder, stage=stage, up=partial(TransposedConv, bias=False)),
        deep_supervision=deep,
    )
    pairs = [
        *zip([theirs.input_block, *theirs.downsamples, theirs.bottleneck], ours.encoder.stages, strict=True),
        *zip([up.transp_conv for up in theirs.upsamples], ours.decoder.ups, strict=True),
        *zip([up.conv_block for up in theirs.upsamples], ours.decoder.stages, strict=True),
        *zip([theirs.output_block, *theirs.deep_supervision_heads], ours.heads, strict=True),
    ]
    # DynUNet's blocks register both convolutions before both norms.
    pairs = [pair for theirs_part, our_part in pairs for pair in in_blocks(theirs_part, our_part)]
    copy_weights(theirs, ours, pairs)

    def with_their_own_scales(image: Tensor) -> list[Tensor]:
        stacked = theirs(image)
        return [stacked[:, 0], *theirs.heads]  # before DynUNet stretches them to the image

    assert_equal_logits(theirs.eval(), ours.eval(), 1, 2, *shape["size"])
    theirs.train()
    logits = assert_equal_logits(with_their_own_scales, ours.train(), 2, 2, *shape["size"])
    assert len(logits) == deep + 1


def in_blocks(theirs: Any, ours: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    if not hasattr(theirs, "conv1"):
        return [(theirs, ours)]
    first, second = ours
    return [
        (theirs.conv1, first.conv),
        (theirs.norm1, first.adn),
        (theirs.conv2, second.conv),
        (theirs.norm2, second.adn),
    ]


def mednext_pairs(theirs: Any, ours: Any) -> list[tuple[nn.Module, nn.Module]]:
    return [
        (theirs.stem, ours.encoder.stem),
        *zip([*theirs.enc_stages, theirs.bottleneck], ours.encoder.stages, strict=True),
        *zip([nn.Identity(), *theirs.down_blocks], ours.encoder.downs, strict=True),
        *zip(theirs.up_blocks, ours.decoder.ups, strict=True),
        *zip(theirs.dec_stages, ours.decoder.stages, strict=True),
        *zip([theirs.out_0, *reversed(theirs.out_blocks)], ours.heads, strict=True),
    ]


@pytest.mark.parametrize(("dims", "size", "kernel"), [(3, (16, 32, 16), 3), (2, (32, 48), 5)])
def test_mednext_s_is_monais(dims, size, kernel):
    theirs = create_mednext("S", dims, 2, 3, kernel, deep_supervision=True)
    ours = named_network("mednext_s", f"network.encoder.kernel_sizes={kernel}")(
        spatial_dims=dims, in_channels=2, out_channels=3
    )
    assert count_parameters(theirs) == count_parameters(ours)
    copy_weights(theirs, ours, mednext_pairs(theirs, ours))
    assert len(assert_equal_logits(theirs.train(), ours.train(), 1, 2, *size)) == 5
    assert_equal_logits(theirs.eval(), ours.eval(), 1, 2, *size)


def test_expansions_and_depths_go_where_mednexts_go():
    # MONAI's ways down expand by the ratio of the stage they leave, ours by that of the stage they lead into, as the
    # authors' do; so the encoder's ratios are equal here.
    theirs = MedNeXt(
        2, 8, 1, 2, 3, (4, 3, 2), 3, 3, True, True, blocks_down=(1, 2, 1), blocks_bottleneck=3, blocks_up=(2, 1, 3)
    )
    made = named_network(
        "mednext_s",
        "network.encoder.features=[8,16,32,64]",
        "network.encoder.depths=[1,2,1,3]",
        "network.encoder.each.expansion=[3,3,3,3]",
        "network.decoder.depths=[3,1,2]",
        "network.decoder.each.expansion=[2,3,4]",
        "network.deep_supervision=3",
    )
    ours = made(spatial_dims=2, in_channels=1, out_channels=2)
    copy_weights(theirs, ours, mednext_pairs(theirs, ours))
    assert_equal_logits(theirs.train(), ours.train(), 1, 1, 16, 24)


@pytest.mark.parametrize(
    ("size", "kernel", "count"),
    [
        ("s", 3, 5_550_914),
        ("b", 3, 10_526_306),
        ("m", 3, 17_548_962),
        ("l", 3, 61_779_266),
        ("s", 5, 5_980_546),
        ("b", 5, 10_955_938),
        ("m", 5, 18_260_834),
        ("l", 5, 62_992_898),
    ],
)
def test_mednexts_have_as_many_parameters_as_the_authors(size, kernel, count):
    # Counted on their code (commit 0b78ed8) with one head, without its unused scalar; in their README 5.6, 10.5, 17.6,
    # 61.8 million for kernel 3 and 5.9, 11.0, 18.3, 63.0 million for kernel 5. Four more heads add 960 * 2 + 4 * 2.
    with torch.device("meta"):
        made = named_network(f"mednext_{size}", f"network.encoder.kernel_sizes={kernel}")
        network = made(spatial_dims=3, in_channels=1, out_channels=2)
    assert count_parameters(network) == count + 960 * 2 + 4 * 2
    assert len(network.heads) == 5
