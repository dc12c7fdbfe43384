"""Parameters of every named network beside what is published, with the source of each number.

``exact`` is the authors' count or the arithmetic of their figure, ``printed`` the number in the paper, in millions.
Where ours differs from theirs, a test of its own says by what. Counts are of trainable scalars.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from torch import nn

from segment.config.build import make
from segment.config.compose import compose
from segment.networks.meta import on_meta
from segment.networks.padding import count_parameters


@dataclass(frozen=True)
class Published:
    """One published network: how ours is named, its dimension, image channels and classes, and the counts."""

    name: str
    dims: int
    channels: int
    classes: int
    exact: int
    printed: str | None
    source: str


TASK04 = "network.encoder.features=[32,64,128,256] network.deep_supervision=2"
KERNEL_5 = "network.encoder.kernel_sizes=5"
UNET2015 = [(1, 64), (64, 64), *((c, d) for a in (64, 128, 256, 512) for c, d in ((a, 2 * a), (2 * a, 2 * a)))]
UNET2015 += [(c, d) for a in (512, 256, 128, 64) for c, d in ((2 * a, a), (a, a))]
FIGURE_2015 = sum(9 * a * b + b for a, b in UNET2015) + sum(4 * 2 * a * a + a for a in (512, 256, 128, 64)) + 64 * 2 + 2

TABLE = [
    Published("unet", 2, 1, 2, FIGURE_2015, None, "Ronneberger 2015, fig. 1: 3x3 and up-convolutions, biases, no norm"),
    Published("unet", 2, 1, 2, 31_030_658, None, "the same arithmetic, written out"),
    Published("unet3d", 3, 3, 3, 19_069_955, "19.069955", "Cicek 2016, sec. 2"),
    Published("vnet", 3, 1, 2, 61_982_682, None, "Milletari 2016: the authors' prototxt (584c150), by arithmetic"),
    Published("unetpp", 2, 1, 1, 9_041_601, "9.04", "Zhou 2019, table 3; their code's own summary"),
    Published("unetpp_ds", 2, 1, 1, 9_041_601 + 3 * 33, "9.04", "the same with three more heads"),
    Published("unet3plus", 2, 1, 1, 26_970_625, "26.97", "Huang 2020, table 1; their code (8ecd067), run"),
    Published("fc_densenet", 2, 3, 11, 9_322_091, None, "Jegou 2017: the authors' code (cf2375b), by arithmetic"),
    Published("r2unet", 2, 3, 1, 39_091_393, None, "the usual re-implementation (LeeJunHyun), run; none is printed"),
    Published("transunet", 2, 3, 9, 105_277_081, None, "Chen 2021: the authors' code (02ef001), run"),
    Published("linknet", 2, 3, 1, 11_534_369, "11.5", "Chaurasia 2017, table III; their code (8805ef7), by arithmetic"),
    Published("ternausnet", 2, 3, 1, 22_927_393, None, "Iglovikov 2018: the authors' UNet11 (243c7fe), run"),
    Published(f"nnunet_plain {TASK04}", 3, 1, 3, 5_603_177, None, "nnU-Net 2.8.1, 3d_fullres plan of MSD Task04"),
    Published(
        "nnunet_resenc_m network.deep_supervision=4", 3, 1, 3, 102_350_575, None,
        "dynamic-network-architectures 0.4.4, ResidualEncoderUNet of six stages (M, L and XL differ in the patch)",
    ),
    # The authors' code (0b78ed8), run, without its one scalar that takes no part; the digits are their README's.
    *(
        Published(f"mednext_{size} network.deep_supervision=0 {more}", 3, 1, 2, count - 1, printed, "Roy 2023, README")
        for size, more, count, printed in (
            ("s", "", 5_550_915, "5.6"), ("b", "", 10_526_307, "10.5"), ("m", "", 17_548_963, None),
            ("l", "", 61_779_267, "61.8"), ("s", KERNEL_5, 5_980_547, None), ("b", KERNEL_5, 10_955_939, "11.0"),
            ("m", KERNEL_5, 18_260_835, "18.3"), ("l", KERNEL_5, 62_992_899, "63.0"),
        )
    ),
    Published("swinunetr", 3, 1, 14, 62_187_296, None, "MONAI; the authors' README prints 62.1 (cut, not rounded)"),
    Published("segresnet", 3, 4, 3, 4_702_227, None, "MONAI's bundle brats_mri_segmentation"),
]  # fmt: skip


@functools.cache
def built(name: str, dims: int, channels: int, classes: int) -> nn.Module:
    GlobalHydra.instance().clear()
    config = compose("train", [f"network={name.split()[0]}", *name.split()[1:]])
    with on_meta():
        return make(config, "network")(spatial_dims=dims, in_channels=channels, out_channels=classes)


@pytest.mark.parametrize("known", TABLE, ids=lambda known: f"{known.name.split()[0]}-{known.exact}")
def test_parameters_equal_the_published(known):
    count = count_parameters(built(known.name, known.dims, known.channels, known.classes))
    assert count == known.exact, known.source
    if known.printed is not None:
        digits = len(known.printed.partition(".")[2])
        assert f"{count / 1e6:.{digits}f}" == known.printed, known.source


def test_attention_unets_are_those_of_the_authors_first_release():
    # Their unet_CT_multi_att_dsv_3D (commit 4a36328) has 6,411,498 for one channel and four classes. Its head fuses
    # four scales (516 + 260 + 132 + 68 of each scale, 68 of the fusion); ours is the finest scale's alone.
    network = built("attention_unet", 3, 1, 4)
    assert count_parameters(network) == 6_411_498 - (516 + 260 + 132 + 68)
    # The paper prints 6.40 M, and 5.88 M without gates: their convolutions' weights alone.
    weights = sum(p.numel() for key, p in network.named_parameters() if p.ndim > 1)
    gates = sum(
        p.numel() for key, p in network.named_parameters() if p.ndim > 1 and ("joins" in key or "gating" in key)
    )
    assert f"{weights / 1e6:.2f}" == "6.40"
    assert f"{(weights - gates) / 1e6:.2f}" == "5.88"


def test_unetrs_printed_count_is_that_of_its_convolutions_and_linear_layers():
    # Hatamizadeh 2022, table 5: 92.58 M, without norms and position embeddings.
    network = built("unetr", 3, 1, 14)
    layers = (nn.Linear, nn.Conv3d, nn.ConvTranspose3d)
    counted = sum(count_parameters(module) for module in network.modules() if isinstance(module, layers))
    assert f"{counted / 1e6:.2f}" == "92.58"
    assert count_parameters(network) == 92_784_046


def test_fc_densenets_printed_count_has_the_statistics_of_its_norms():
    # Jegou 2017, table 5: 9.4 M, by a library that counts running means and deviations as parameters.
    network = built("fc_densenet", 2, 3, 11)
    statistics = sum(b.numel() for key, b in network.named_buffers() if not key.endswith("num_batches_tracked"))
    assert f"{(count_parameters(network) + statistics) / 1e6:.1f}" == "9.4"


def test_resunets_printed_count_is_without_its_shortcuts():
    # Zhang 2018, sec. IV: 7.8 M is the count of the 15 convolutions and norms; the 1x1 shortcuts, without which
    # channels do not fit, come on top.
    network = built("resunet", 2, 3, 1)
    shortcuts = sum(p.numel() for key, p in network.named_parameters() if ".skip." in key)
    assert count_parameters(network) - shortcuts == 7_789_313
    assert count_parameters(network) == 8_220_993


def test_denseunet_is_the_authors_without_its_redundant_scales():
    # Li 2018: the code (06cc436) has 49,747,779 for three classes, of which 219,936 are a second scale and shift after
    # each of the encoder's batch norms.
    assert count_parameters(built("denseunet", 2, 3, 3)) == 49_747_779 - 219_936


def test_dynunet_is_nnunets_without_biases_before_norms():
    # nnU-Net's Task04 plan without the biases of its 14 convolutions and 3 transposed ones, and without two heads.
    biases = 2 * (32 + 64 + 128 + 256) + 2 * (32 + 64 + 128) + (32 + 64 + 128)
    heads = 3 * (64 + 1) + 3 * (128 + 1)
    assert count_parameters(built("dynunet", 3, 1, 3)) == 5_603_177 - biases - heads


def test_the_table_knows_every_network():
    files = {path.stem for path in (Path(__file__).parents[2] / "conf" / "network").glob("*.yaml")}
    known = {row.name.split()[0] for row in TABLE}
    elsewhere = {"attention_unet", "unetr", "resunet", "denseunet", "dynunet"}
    # Ours, of which nothing is published, and those that are another one's network.
    own = {"unet_small", "unet_encoder", "monai_unet", "nnunet_resenc_l", "nnunet_resenc_xl"}
    assert files == known | elsewhere | own


@pytest.mark.parametrize("size", ["l", "xl"])
def test_the_larger_residual_encoders_are_the_medium_one(size):
    medium, larger = (built(f"nnunet_resenc_{name}", 3, 1, 3).state_dict() for name in ("m", size))
    assert {key: value.shape for key, value in medium.items()} == {key: value.shape for key, value in larger.items()}
