"""One contract for every conf/network/*.yaml: a new file is tested automatically.

Where a network cannot be exported, its file says so in a comment: ``# onnx: no, REASON``.
"""

import functools
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file, save_file
from torch import nn

from segment.config.build import make
from segment.config.choices import first_comment
from segment.config.compose import compose
from segment.inference.engines.onnx_file import to_onnx
from segment.inference.engines.onnx_runtime import onnxruntime_engine
from segment.inference.engines.open_vino import openvino_engine, read_onnx
from segment.networks.encoders.classic import CLASSIC
from segment.networks.meta import on_meta

FOLDER = Path(__file__).parents[2] / "conf" / "network"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
# Every file, and every classic encoder under the decoder of unet_encoder.
NETWORKS = FILES + [f"unet_encoder network.encoder={name}" for name in CLASSIC]
CLASSES = 3
ODD = {2: (33, 41), 3: (17, 19, 21)}

every_network = pytest.mark.parametrize("name", NETWORKS)
every_file = pytest.mark.parametrize("name", FILES)
both_dimensions = pytest.mark.parametrize("dims", [2, 3])


@functools.cache
def settings(name: str):
    GlobalHydra.instance().clear()
    return compose("train", [f"network={name.split()[0]}", *name.split()[1:]])


def build(name: str, dims: int, channels: int = 1, seed: int = 0, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(seed)
    return make(settings(name), "network")(spatial_dims=dims, in_channels=channels, out_channels=classes)


def listed(output: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else output


def comment(name: str, key: str) -> str | None:
    """What follows ``# KEY:`` in the network's file."""
    for line in (FOLDER / f"{name.split()[0]}.yaml").read_text().splitlines():
        if line.startswith(f"# {key}:"):
            return line.removeprefix(f"# {key}:").strip()
    return None


def check_shapes_and_gradients(network: nn.Module, image: torch.Tensor) -> None:
    """The finest logits have the image's size, coarser ones that of their stage, and every parameter learns."""
    first, *coarser = listed(network.train()(image))
    shape = image.shape[2:]
    assert first.shape == (len(image), CLASSES, *shape)
    for output, stride in zip(coarser, getattr(network, "strides", [])[1:], strict=False):
        assert output.shape == (len(image), CLASSES, *(-(-n // s) for n, s in zip(shape, stride, strict=True)))
    sum((logits**2).mean() for logits in (first, *coarser)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{key} takes no part in the loss"
        if not image.is_meta:
            assert torch.isfinite(parameter.grad).all(), key


# Seconds each; the slow run has them.
HEAVY = {
    *(
        "denseunet",
        "fc_densenet",
        "mednext_b",
        "r2unet",
        "transunet",
        "unetr",
        "unet3plus",
    ),
    *("mednext_m", "mednext_l"),
}
VALUED = [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in FILES]


@pytest.fixture(scope="module", params=VALUED)
def built(request) -> tuple[str, nn.Module]:
    """Each network once, in 2D, for the tests that need its values."""
    return request.param, build(request.param, 2, seed=5).eval()


def test_expected_networks_exist():
    assert set(FILES) >= {
        *("unet", "unet3d", "vnet", "attention_unet", "unetpp", "unetpp_ds", "unet3plus", "resunet", "r2unet"),
        *("denseunet", "nnunet_plain", "nnunet_resenc_m", "segresnet"),
        *("dynunet", "unetr", "swinunetr", "transunet", "linknet", "ternausnet", "unet_encoder", "unet_small"),
        *(f"mednext_{size}" for size in "sbml"),
    }


# A classic encoder's channels and dimensions are its own; the decoder behind it is that of unet_encoder.
@pytest.mark.parametrize(
    ("name", "dims", "channels"),
    [(name, *case) for name in NETWORKS for case in ((2, 3), (3, 1))[: 1 + (name in FILES)]],
)
def test_any_dimension_and_channels_give_logits_and_gradients(name, dims, channels):
    # Without values: shapes and the paths of gradients are the same on the meta device.
    with on_meta():
        network = build(name, dims, channels)
        check_shapes_and_gradients(network, torch.empty(1, channels, *ODD[dims]))


@pytest.mark.slow
@every_network
@both_dimensions
def test_every_gradient_is_finite_at_odd_sizes(name, dims):
    image = torch.randn(1, 1, *ODD[dims], generator=torch.Generator().manual_seed(1))
    check_shapes_and_gradients(build(name, dims), image)


def test_evaluation_gives_one_finite_tensor_that_does_not_depend_on_the_batch(built):
    _, network = built
    images = torch.randn(2, 1, 72, 96, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        together, alone = network(images), network(images[1:])
    assert isinstance(together, torch.Tensor)
    assert together.shape == (2, CLASSES, 72, 96)
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


def test_the_seed_decides_the_weights_and_safetensors_keep_them(built, tmp_path):
    name, network = built
    state, other = network.state_dict(), build(name, 2, seed=6)
    assert any(not torch.equal(value, other.state_dict()[key]) for key, value in state.items())
    # Cloned because DynUNet registers each block under two names.
    save_file({key: value.clone() for key, value in state.items()}, tmp_path / "weights.safetensors")
    same = build(name, 2, seed=5).state_dict()
    stored = load_file(tmp_path / "weights.safetensors")
    assert stored.keys() == state.keys() == same.keys()
    assert all(torch.equal(value, same[key]) and torch.equal(value, stored[key]) for key, value in state.items())


def test_half_precision_gives_finite_logits_near_those_of_single_precision(built):
    _, network = built
    image = torch.randn(1, 1, 16, 24, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        single = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(image)
    assert half.dtype in (torch.bfloat16, torch.float32)
    assert torch.isfinite(half).all()
    assert (half.float() - single).abs().mean() < 0.1 * single.std()


@pytest.mark.slow
def test_the_onnx_export_gives_the_same_logits(built):
    name, network = built
    reason = comment(name, "onnx")
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    image = torch.randn(1, 1, 64, 96, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        logits = network(image)
    data = to_onnx(network, image.shape, logits.shape)
    for engine in (onnxruntime_engine(data), openvino_engine(read_onnx(data), "32-true")):
        torch.testing.assert_close(engine(image), logits, rtol=1e-3, atol=1e-3)


@every_file
def test_the_file_names_its_paper_and_its_recipe(name):
    first = first_comment(FOLDER / f"{name}.yaml")
    assert first
    assert "https://" in first or name == "unet_small"
    config = settings(name)
    if "Transformer" in first or "transformer" in first or "attention under" in first:
        assert config.optimizer._target_.endswith("AdamW"), "transformers are not trained with SGD"
    assert make(config, "optimizer")([nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] > 0
