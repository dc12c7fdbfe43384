"""Gradients in bf16 on the CPU: the same at every repetition, whatever freed memory holds, and close to those in fp32.

On a processor whose bf16 oneDNN computes by its AVX-512 kernels the tests of small maps fail without
`bf16_convolution.install`; elsewhere bf16 is emulated, and slow, so all maps here are tiny.
"""

from pathlib import Path

import pytest
import torch
from narrow_networks import narrow
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from segment.config.build import make
from segment.instruction_set import bf16_in_hardware
from segment.networks import bf16_convolution

FOLDER = Path(__file__).parents[2] / "conf" / "network"
NETWORKS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.fixture(autouse=True)
def _installed():
    bf16_convolution.install()


def poison(value: float) -> None:
    """Free memory of many sizes that is filled with a value."""
    freed = [torch.full((size,), value) for size in (4_096, 16_384, 65_536, 110_592, 400_000, 4_000_000) for _ in "ab"]
    del freed


class Checked(TorchDispatchMode):
    """Compares every convolution in bf16, and its gradients, with those in fp32 of the very same tensors."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        convolutions = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
        if function in convolutions and args[1].dtype == torch.bfloat16:
            wide = [value.float() if isinstance(value, torch.Tensor) else value for value in args]
            both = ([value] if isinstance(value, torch.Tensor) else value for value in (found, function(*wide)))
            for place, (value, exact) in enumerate(zip(*both, strict=True)):
                if value is not None:
                    case = function, place, [tuple(given.shape) for given in args if isinstance(given, torch.Tensor)]
                    assert float((value.float() - exact).norm()) <= 0.02 * float(exact.norm()) + 1e-30, case
        return found


def gradients(network: nn.Module, image: torch.Tensor, value: float) -> dict[str, torch.Tensor]:
    """Gradient of every parameter and of the image, in a training step in bf16."""
    network.zero_grad(set_to_none=True)
    image = image.clone().requires_grad_()
    torch.manual_seed(0)  # of dropout
    poison(value)
    with Checked(), torch.autocast("cpu", torch.bfloat16):
        outputs = network(image)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    loss = sum(output.float().square().mean() for output in outputs)
    poison(value)
    with Checked():
        loss.backward()
    found = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return found | {"image": image.grad}


def check(network: nn.Module, image: torch.Tensor) -> None:
    """The gradients are reproducible, and those of convolutions are close to those in fp32."""
    first, second = (gradients(network, image, value) for value in (1e30, float("nan")))
    for name, value in first.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, second[name]), f"{name} is another one at the second time"


def convolution(kind: type[nn.Module], kernel: int | tuple[int, int, int], **more) -> nn.Module:
    torch.manual_seed(0)
    padding = kernel // 2 if isinstance(kernel, int) else tuple(size // 2 for size in kernel)
    return kind(16, 16, kernel, padding=padding, **more)


@pytest.mark.parametrize("extents", [(1, 3, 3), (2, 1, 1), (2, 2, 2), (2, 3, 2), (3, 2, 1), (3, 2, 2), (4, 2, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    "layer",
    [
        convolution(nn.Conv3d, 3),
        convolution(nn.Conv3d, 5),
        convolution(nn.Conv3d, (1, 3, 3)),
        convolution(nn.Conv3d, 3, stride=2),
        convolution(nn.Conv3d, 3, groups=16),
        convolution(nn.ConvTranspose3d, 3),
        convolution(nn.ConvTranspose3d, 3, stride=2, output_padding=1),
    ],
    ids=lambda layer: str(layer).replace(" ", ""),
)
def test_convolution_over_a_small_map_has_correct_gradients(layer, layout, extents):
    image = torch.randn(2, 16, *extents, generator=torch.Generator().manual_seed(1))
    check(layer.to(memory_format=layout), image.contiguous(memory_format=layout))


@pytest.mark.parametrize(
    ("extents", "kernel", "dilation", "small"),
    [
        ((2, 9, 9), 3, 1, True),
        ((3, 3, 3), 3, 1, False),
        ((9, 4, 9), 5, 1, True),
        ((5, 9, 9), 5, 1, False),
        ((3, 9, 9), 3, 2, True),
        ((1, 1, 1), 1, 1, False),
        ((2, 9), 3, 1, True),
        ((3, 9), 3, 1, False),
    ],
)
def test_only_weight_gradients_of_maps_smaller_than_the_kernel_are_computed_in_fp32(extents, kernel, dilation, small):
    """All other convolutions stay as fast as before."""
    axes = len(extents)
    image, weight = torch.zeros(1, 4, *extents, dtype=torch.bfloat16), torch.zeros(4, 4, *[kernel] * axes)
    assert bf16_convolution.is_smaller_than_kernel(image, weight, [dilation] * axes) is small
    assert not bf16_convolution.is_smaller_than_kernel(image.float(), weight, [dilation] * axes)


@pytest.mark.parametrize(
    ("extents", "stride", "one"),
    [((5, 5, 2), 2, True), ((5, 5, 3), 2, False), ((2, 2, 3), 3, True), ((5, 5, 1), 1, False), ((5, 2), 2, False)],
)
def test_strided_convolutions_that_end_in_one_voxel_are_computed_in_fp32(extents, stride, one):
    axes = len(extents)
    image, weight = torch.zeros(1, 4, *extents, dtype=torch.bfloat16), torch.zeros(4, 4, *[3] * axes)
    given = ([stride] * axes, [1] * axes, [1] * axes)
    assert bf16_convolution.ends_in_one_voxel(image, weight, *given) is one
    assert not bf16_convolution.ends_in_one_voxel(image.float(), weight, *given)


@pytest.mark.parametrize(("planes", "kernel", "flat"), [(1, 3, True), (1, 1, False), (2, 3, False)])
def test_single_planes_under_kernels_of_several_are_computed_in_fp32(planes, kernel, flat):
    image, weight = torch.zeros(1, 3, planes, 9, 9, dtype=torch.bfloat16), torch.zeros(8, 3, kernel, 3, 3)
    assert bf16_convolution.is_single_plane(image, weight) is flat
    assert not bf16_convolution.is_single_plane(image.float(), weight)


@pytest.mark.parametrize("extents", [(1, 4, 4), (1, 9, 9)])
@pytest.mark.parametrize(("channels", "kernel", "stride"), [(1, 3, 1), (3, 3, 2), (12, 5, 1)])
def test_first_layer_is_correct_over_a_single_plane(channels, kernel, stride, extents):
    torch.manual_seed(0)
    layer = nn.Conv3d(channels, 16, kernel, stride=stride, padding=kernel // 2)
    check(layer, torch.randn(2, channels, *extents, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("extents", "channels"), [((6, 6, 3), 2), ((6, 6, 6), 16), ((7, 7, 7), 3)])
def test_large_strided_kernels_write_into_no_other_memory(extents, channels, dtype):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, channels, *extents, generator=generator).to(dtype)
    weight = torch.randn(8, channels, 7, 7, 7, generator=generator).to(dtype).requires_grad_()
    wide = weight.detach().double().requires_grad_()
    for given, pixels in ((weight, image), (wide, image.double())):
        output = functional.conv3d(pixels, given, stride=2, padding=3)
        poison(1e30)
        output.sum().backward()
    difference = (weight.grad.double() - wide.grad).norm() / wide.grad.norm()
    assert float(difference) < (1e-5 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("bias", [True, False])
def test_results_computed_in_fp32_are_returned_in_bf16(bias):
    layer = nn.Conv3d(4, 4, 3, stride=2, padding=1, bias=bias).bfloat16()
    image = torch.randn(1, 4, 2, 3, 2, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    output = layer(image)
    exact = functional.conv3d(
        image.float(), layer.weight.float(), layer.bias.float() if bias else None, stride=2, padding=1
    )
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), exact, rtol=0.01, atol=0.01)
    output.float().square().sum().backward()
    assert {image.grad.dtype, *(p.grad.dtype for p in layer.parameters())} == {torch.bfloat16}


def test_functions_and_plain_bf16_tensors_are_covered_too():
    """The fix applies to torch's operator, not to our layers."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 16, 2, 3, 3, generator=generator)
    weight = torch.randn(16, 16, 3, 3, 3, generator=generator).requires_grad_()
    functional.conv3d(image, weight, padding=1).square().sum().backward()
    exact, weight.grad = weight.grad, None
    rounded = weight.detach().bfloat16().requires_grad_()
    output = functional.conv3d(image.bfloat16(), rounded, padding=1)
    poison(1e30)
    output.float().square().sum().backward()
    assert rounded.grad.dtype == torch.bfloat16
    assert float((rounded.grad.float() - exact).norm() / exact.norm()) < 0.02


def test_second_derivatives_of_a_convolution_are_unchanged():
    layer = convolution(nn.Conv3d, 3)
    image = torch.randn(1, 16, 2, 3, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    (first,) = torch.autograd.grad(layer(image).square().sum(), image, create_graph=True)
    first.square().sum().backward()
    assert torch.isfinite(layer.weight.grad).all()
    assert layer.weight.grad.abs().sum() > 0


def build(name: str) -> nn.Module:
    described = OmegaConf.create({"network": narrow(name)})
    torch.manual_seed(0)
    return make(described, "network")(spatial_dims=3, in_channels=1, out_channels=2)


# A step of these takes a second or two where bf16 is emulated; the others then take up to minutes.
LIGHT = (
    *("attention_unet", "dynunet", "mednext_s", "monai_unet", "resunet", "segresnet", "unet", "unet3d", "unet_small"),
    "vnet",
)
# A step of these takes three seconds or more even in hardware.
HEAVY = ("denseunet", "fc_densenet", "linknet", "r2unet", "swinunetr", "ternausnet", "unet3plus", "unet_encoder")


def fast(name: str, planes: int) -> bool:
    """Whether a case belongs to the fast tests of this machine."""
    return planes == 2 and (name in LIGHT or (bf16_in_hardware() and name not in HEAVY))


BOTTLENECKS = [
    pytest.param(name, planes, marks=[pytest.mark.slow] * (not fast(name, planes)))
    for name in NETWORKS
    for planes in (2, 3, 1)
]


@pytest.mark.parametrize(("name", "planes"), BOTTLENECKS)
def test_every_network_has_correct_gradients_with_few_planes_at_the_bottleneck(name, planes):
    network = build(name)
    depth, *plane = getattr(network, "divisor", (16, 16, 16))
    shape = (planes * depth, plane[0] * (2 if plane[0] < 32 else 1), plane[1])
    check(network, torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1)))
