"""The size of a network: parameters, operations and output shapes, in total and for each part."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from segment.networks.blocks import per_axis
from segment.networks.meta import meta_copy, on_meta
from segment.networks.padding import PadToDivisor, count_parameters
from segment.networks.unet import UNet


@dataclass(frozen=True)
class Part:
    """A part of a network; in a U-Net, the modules that run one after another at one resolution.

    Attributes:
        name: Names of its modules in the network.
        channels: Channels of its output; None where it returns no map or does not run in evaluation mode.
        stride: Image voxels in one voxel of its output, one number per axis, rounded where a map is cropped.
        size: Voxels of its output along each axis.
        parameters: Trainable scalars; shared ones count in the first part that has them.
        operations: See :func:`describe`.
    """

    name: str
    channels: int | None
    stride: tuple[int, ...] | None
    size: tuple[int, ...] | None
    parameters: int
    operations: int


@dataclass(frozen=True)
class Description:
    """A network in numbers.

    Attributes:
        parameters: Trainable scalars.
        divisor: The image is padded to a multiple of this along each axis.
        deep_supervision: Additional outputs during training.
        size: Voxels of the image along each axis that operations and parts refer to.
        operations: See :func:`describe`.
        parts: In the order in which they finish; then what does not run in evaluation mode; then what is in no part.
    """

    parameters: int
    divisor: tuple[int, ...]
    deep_supervision: int
    size: tuple[int, ...]
    operations: int
    parts: list[Part]

    @property
    def operations_per_voxel(self) -> int:
        """Operations over the voxels of the image."""
        return round(self.operations / math.prod(self.size))


def build(network: Callable[..., nn.Module], dims: int, channels: int = 1, classes: int = 2) -> nn.Module:
    """Build a network on the meta device, in evaluation mode.

    Args:
        network: Its constructor, called with spatial_dims, in_channels and out_channels.
        dims: 2 or 3.
        channels: Channels of the image.
        classes: Number of classes, background included.
    """
    with on_meta():
        built = network(spatial_dims=dims, in_channels=channels, out_channels=classes).eval()
    return built if all(value.is_meta for value in built.state_dict().values()) else built.to("meta")


def describe(network: nn.Module, dims: int, size: Sequence[int] | None = None, channels: int = 1) -> Description:
    """Count what one forward pass in evaluation mode costs, without computing anything.

    Counts the operations of convolutions, transposed convolutions and matrix products (linear layers and attention
    too), a multiply-add as two, including those on the padding of the image. Biases, norms, activations, sums, pooling
    and interpolation do not count. With attention over the whole image, operations per voxel grow with the image.

    Args:
        network: A network from :func:`build`.
        dims: Axes of the image.
        size: Voxels of the image along each axis; None for :func:`usual_size`.
        channels: Channels of the image.
    """
    divisor = per_axis(getattr(network, "divisor", 1), dims)
    size = usual_size(divisor) if size is None else tuple(size)
    units = _units(network)
    calls, padded, total = _calls(network, units, torch.empty(1, channels, *size, device="meta"))
    parts = _parts(calls, _own_parameters(units), padded, isinstance(network, UNet))
    parameters = count_parameters(network)
    rest = parameters - sum(part.parameters for part in parts), total - sum(part.operations for part in parts)
    if any(rest):
        parts.append(Part("(in no part)", None, None, None, *rest))
    outputs = len(network.heads) - 1 if isinstance(network, UNet) else 0
    return Description(parameters, divisor, outputs, size, total, parts)


def training_operations(network: nn.Module, shape: Sequence[int]) -> int | None:
    """Count what the forward and the backward pass of one training step cost, without computing anything.

    Counted as in :func:`describe`, for all outputs of deep supervision, without the gradient of the image. The network
    and the random state are unchanged.

    Args:
        network: On any device, in training mode.
        shape: Shape of the image: batch, channels and voxels along each axis.

    Returns:
        Operations; None for a network that does not run on the meta device.
    """
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    try:
        # A copy, since a network may cache tensors for an image size; its weights are not copied.
        bare = meta_copy(network)
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), counter, _OnlyCounted():
            outputs = bare(torch.empty(*shape, device="meta"))
            outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
            torch.autograd.backward(outputs, [torch.empty_like(output) for output in outputs])
    except Exception:  # a custom network may raise anything on tensors that have no values
        return None
    return counter.get_total_flops()


def _convolution_backward(
    grad_shape: Sequence[int],
    image_shape: Sequence[int],
    weight_shape: Sequence[int],
    *others: Any,
    out_shape: Sequence[Any],
    **more: Any,
) -> int:
    """Operations of a convolution's gradients; torch's own formula ignores the groups in the weight gradient."""
    transposed, mask = others[4], others[7]
    forward = conv_flop_count([*image_shape], [*weight_shape], [*grad_shape], transposed)
    return forward * (mask[0] + mask[1])


def usual_size(divisor: Sequence[int]) -> tuple[int, ...]:
    """The size at which networks are compared: sides of 192 in 2D, 96 in 3D, or the next size without padding."""
    least = 96 if len(divisor) == 3 else 192
    # At least two multiples, because pad_to_divisor pads a single one to two.
    return tuple(step * max(2, -(-least // step)) for step in divisor)


class _OnlyCounted(TorchFunctionMode):
    """Skips functions that count nothing and change no shape, which take half of the time."""

    skipped = frozenset(
        {
            *(torch.batch_norm, torch.instance_norm, torch.group_norm, torch.layer_norm, torch.relu, torch.relu_),
            *(functional.batch_norm, functional.instance_norm, functional.group_norm, functional.layer_norm),
            *(functional.relu, functional.leaky_relu, functional.gelu, functional.dropout, torch.prelu),
        }
    )

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        return args[0] if func in self.skipped and args else func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Call:
    """One call of a unit: its output shape, and its operations without those of units inside it."""

    unit: str
    shape: tuple[int, ...]
    operations: int


def _units(network: nn.Module) -> dict[str, nn.Module]:
    """Name and module of each unit: the children of a U-Net's parts, or those of another network.

    Lists are expanded; in a U-Net so is a plain sequence, such as the layers of a classic encoder.
    """
    if isinstance(network, UNet):
        parts = ("encoder", "decoder", "heads")
        units = {
            f"{part}.{name}": unit for part in parts for name, unit in _expanded(network.get_submodule(part), True)
        }
    else:
        units = dict(_expanded(_input_module(network), False))
    # A module may be registered under several names.
    names = {id(unit): name for name, unit in reversed(units.items())}
    return {name: unit for name, unit in units.items() if names[id(unit)] == name and type(unit) is not nn.Identity}


def _expanded(module: nn.Module, sequences: bool) -> Iterator[tuple[str, nn.Module]]:
    """Name and module of each child; lists and, if ``sequences``, plain sequences are replaced by their children."""
    for name, child in module.named_children():
        if type(child) in (nn.ModuleList, nn.ModuleDict) or (sequences and type(child) is nn.Sequential):
            yield from ((f"{name}.{key}", unit) for key, unit in _expanded(child, False))
        else:
            yield name, child


def _input_module(network: nn.Module) -> nn.Module:
    """The module that receives the padded image."""
    if isinstance(network, UNet):
        return network.get_submodule("encoder")
    return network.network if isinstance(network, PadToDivisor) else network


def _own_parameters(units: Mapping[str, nn.Module]) -> dict[str, int]:
    """Trainable scalars of each unit; shared ones only in the first."""
    seen: set[int] = set()
    own = {}
    for name, unit in units.items():
        new = [p for p in unit.parameters() if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in new)
        own[name] = sum(p.numel() for p in new)
    return own


def _calls(network: nn.Module, units: Mapping[str, nn.Module], image: Tensor) -> tuple[list[_Call], list[int], int]:
    """The calls of units in the order in which they end, the padded image's size, and the total operations."""
    counter = FlopCounterMode(display=False)
    calls: list[_Call] = []
    padded = list(image.shape[2:])
    running: list[list[int]] = []  # for each active call: operations before it, and those of units inside it

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        padded[:] = inputs[0].shape[2:]

    def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        running.append([counter.get_total_flops(), 0])

    def end(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        before, within = running.pop()
        spent = counter.get_total_flops() - before
        if running:
            running[-1][1] += spent
        while isinstance(output, list | tuple) and output:  # the last of several maps, usually the coarsest
            output = output[-1]
        calls.append(_Call(name, tuple(getattr(output, "shape", ())), spent - within))

    hooks = [_input_module(network).register_forward_pre_hook(enter)]
    for name, unit in units.items():
        hooks += [unit.register_forward_pre_hook(begin), unit.register_forward_hook(partial(end, name))]
    try:
        with torch.no_grad(), counter, _OnlyCounted():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, padded, counter.get_total_flops()


def _parts(calls: Sequence[_Call], own: dict[str, int], padded: Sequence[int], unet: bool) -> list[Part]:
    """The calls as parts, followed by the units that were not called."""
    parts: list[Part] = []
    for call in calls:
        part = Part(call.unit, None, None, None, own.pop(call.unit, 0), call.operations)
        if len(call.shape) == len(padded) + 2:
            size = call.shape[2:]
            stride = tuple(round(whole / voxels) for whole, voxels in zip(padded, size, strict=True))
            part = replace(part, channels=call.shape[1], stride=stride, size=size)
        elif len(call.shape) == 3 and parts:  # tokens of the previous map
            part = replace(part, channels=call.shape[2], stride=parts[-1].stride, size=parts[-1].size)
        parts.append(part)
    # In other networks, only units with parameters or operations: wrappers end after their contents.
    parts = _by_resolution(parts) if unet else [part for part in parts if part.parameters or part.operations]
    idle = [Part(name, None, None, None, parameters, 0) for name, parameters in own.items() if parameters]
    if idle:
        idle = [_merged(idle)]
        parts.append(replace(idle[0], name=f"{idle[0].name} (not in evaluation)"))
    return parts


def _by_resolution(parts: Sequence[Part]) -> list[Part]:
    """Merge neighbours of one U-Net side at one resolution, but never a second upsampling or stage with the first."""
    groups: list[list[Part]] = []
    for part in parts:
        group = groups[-1] if groups else []
        side, within = part.name.partition(".")[0], part.name.rpartition(".")[0]
        members = [other.name.rpartition(".")[0] for other in group]
        again = within != side and within in members and within != members[-1]
        if group and group[-1].size == part.size and members[0].partition(".")[0] == side and not again:
            group.append(part)
        else:
            groups.append([part])
    return [_merged(group) for group in groups]


def _merged(parts: Sequence[Part]) -> Part:
    """Merge parts that run one after another; the result has the output of the last."""
    names: list[str] = []
    for within, run in groupby((part.name for part in parts), key=lambda name: name.rpartition(".")[0]):
        keys = [name.rpartition(".")[2] for name in run]
        last = f"..{keys[-1]}" if len(keys) > 1 else ""
        names.append(f"{within}.{keys[0]}{last}".lstrip("."))
    side = names[0].partition(".")[0]
    labels = [names[0], *(name.removeprefix(f"{side}.") for name in names[1:])]
    parameters, operations = sum(part.parameters for part in parts), sum(part.operations for part in parts)
    return replace(parts[-1], name=", ".join(labels), parameters=parameters, operations=operations)
