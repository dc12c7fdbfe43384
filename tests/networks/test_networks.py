"""One contract for every conf/network/*.yaml: a new file there is tested by being there."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

FOLDER = Path(__file__).parents[2] / "conf" / "network"
NETWORKS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
CLASSES = 3
ODD = {2: (33, 41), 3: (17, 19, 21)}

every_network = pytest.mark.parametrize("name", NETWORKS)
both_dimensions = pytest.mark.parametrize("dims", [2, 3])


def build(name: str, dims: int, channels: int = 1, seed: int = 0) -> nn.Module:
    node = OmegaConf.create({"seed": 0, "network": OmegaConf.load(FOLDER / f"{name}.yaml")}).network
    torch.manual_seed(seed)
    return instantiate(node, _convert_="all")(spatial_dims=dims, in_channels=channels, out_channels=CLASSES)


def finest(output: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output[0]


def test_there_are_networks():
    assert {"unet", "unet_small"} <= set(NETWORKS)


@every_network
@pytest.mark.parametrize(("dims", "channels"), [(2, 1), (3, 3)])
def test_an_odd_size_comes_back_and_every_parameter_learns(name, dims, channels):
    network = build(name, dims, channels).train()
    output = network(torch.randn(1, channels, *ODD[dims], generator=torch.Generator().manual_seed(1)))
    assert finest(output).shape == (1, CLASSES, *ODD[dims])
    outputs = [output] if isinstance(output, torch.Tensor) else output
    sum((logits**2).mean() for logits in outputs).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{key} takes no part in the loss"
        assert torch.isfinite(parameter.grad).all(), key


@every_network
@both_dimensions
def test_evaluation_gives_one_finite_tensor_that_does_not_depend_on_the_batch(name, dims):
    network = build(name, dims).eval()
    images = torch.randn(2, 1, *[20] * dims, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        together, alone = network(images), network(images[1:])
    assert isinstance(together, torch.Tensor)
    assert together.shape == (2, CLASSES, *[20] * dims)
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


@every_network
def test_the_seed_decides_the_weights(name):
    first, same, other = (build(name, 2, seed=seed).state_dict() for seed in (5, 5, 6))
    assert first.keys() == same.keys() == other.keys()
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_network
def test_weights_come_back_through_safetensors(name, tmp_path):
    network, other = build(name, 2, seed=1).eval(), build(name, 2, seed=2).eval()
    # Cloned because DynUNet registers each block under two names.
    save_file({key: value.clone() for key, value in network.state_dict().items()}, tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    image = torch.randn(1, 1, 33, 41)
    with torch.inference_mode():
        torch.testing.assert_close(other(image), network(image), rtol=0, atol=0)


@every_network
def test_half_precision_gives_finite_logits_near_those_of_single_precision(name):
    network = build(name, 2).eval()
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        single = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network(image)
    assert half.dtype in (torch.bfloat16, torch.float32)
    assert torch.isfinite(half).all()
    assert (half.float() - single).abs().mean() < 0.1 * single.std()
