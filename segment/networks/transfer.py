"""Take what fits of a network's weights into another one: other channels, classes, kernels, stages or dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional

from segment.networks.weights import deal_channels

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
HEADS = "heads."
PREFIXES = ("", "network.", "module.", "model.")  # of wrappers that a state dict may have been saved from or lack


@dataclass
class Transfer:
    """What a network took from weights, by the names of its tensors.

    Attributes:
        taken: Taken as they are.
        adapted: Taken in another shape, with how.
        initial: Keep their initial values, with the reason.
        unused: Tensors of the weights that the network has no place for.
    """

    taken: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    initial: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def named_alike(network: nn.Module, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights under the network's names, if a wrapper's prefix is all that differs.

    Args:
        network: Its names count.
        state: Name to tensor.
    """
    own = network.state_dict().keys()
    choices = [{n.removeprefix(p): v for n, v in state.items()} for p in PREFIXES]
    choices += [{f"{p}{n}": v for n, v in state.items()} for p in PREFIXES[1:]]
    return max(choices, key=lambda choice: len(own & choice.keys()))


def transfer(
    network: nn.Module, state: Mapping[str, Tensor], left_out: Callable[[str], str | None] = lambda name: None
) -> Transfer:
    """Load every tensor that fits, as it is or adapted; the others keep their initial values.

    Image channels are dealt anew (`segment.networks.weights.deal_channels`), kernels change their dimensions or lose
    and gain an axis (`fit_kernel`), and smaller depthwise kernels are interpolated: UpKern (Roy et al. 2023, arXiv
    2303.09975, sec. 2.4), linear along each axis, corners not aligned, values not rescaled, as in the authors' code.

    Args:
        network: Receives the weights.
        state: Name to tensor, with the network's names.
        left_out: Why a tensor of the network, by name, is not to be taken; None if it is.

    Returns:
        What was taken and what was not.

    Raises:
        ValueError: When less than half of what is to be taken, counted in numbers, without heads and in the parts that
            the weights have, fits; names the first tensor that does not. The network is then unchanged.
    """
    own, modules = network.state_dict(), dict(network.named_modules())
    channels = _image_channels(own), _image_channels({name: state[name] for name in own if name in state})
    parts = {name.partition(".")[0] for name in state} - {HEADS.rstrip(".")}
    result, fitted, sizes = Transfer(), dict(own), [0, 0]
    result.unused = [name for name in state if name not in own]
    for name, target in own.items():
        value, module = state.get(name), modules.get(name.rpartition(".")[0])
        if reason := left_out(name):
            result.initial[name] = reason
            continue
        counted = target.numel() if name.partition(".")[0] in parts else 0
        sizes[1] += counted
        if value is None:
            result.initial[name] = "absent from the weights"
        elif value.shape == target.shape:
            fitted[name] = value.to(target.dtype)
            result.taken.append(name)
        elif (adapted := _adapted(value, target, module, channels)) is not None:
            fitted[name], how = adapted[0].to(target.dtype), adapted[1]
            result.adapted[name] = f"{tuple(value.shape)} to {tuple(target.shape)}, {how}"
        else:
            result.initial[name] = f"{tuple(value.shape)} in the weights, {tuple(target.shape)} in the network"
        sizes[0] += 0 if name in result.initial else counted
    if not sizes[1] or 2 * sizes[0] < sizes[1]:
        first = next((name for name in result.initial if not left_out(name)), "")
        why = result.initial.get(first, "not there")
        raise ValueError(f"tensor {first[:200]!r} is {why}, and most others do not fit")
    network.load_state_dict(fitted)
    return result


def fit_kernel(value: Tensor, shape: Iterable[int], transposed: bool = False) -> Tensor | None:
    """Give a kernel another shape, keeping its response to an image that is constant along each changed axis.

    A new axis is inflated: repeated and divided by its size (I3D, Carreira & Zisserman 2017, arXiv 1705.07750, sec.
    2.2), one that ends is summed. A transposed convolution whose stride is its kernel uses one element for each
    output, so that it repeats without division, and averages. 2D kernels have an axis z of size 1.

    Args:
        value: (out, in, *kernel), 2D or 3D.
        shape: The whole shape that is needed, 2D or 3D.
        transposed: Whether it belongs to a transposed convolution whose stride is its kernel.

    Returns:
        The kernel; None if an axis has another size on both sides, or the channels differ.
    """
    wanted = tuple(shape)
    value = value.unsqueeze(2) if value.ndim == 4 else value
    spatial = (1, *wanted[2:]) if len(wanted) == 4 else wanted[2:]
    pairs = zip(value.shape[2:], spatial, strict=True)
    if value.shape[:2] != wanted[:2] or any(a != b and 1 not in (a, b) for a, b in pairs):
        return None
    for axis, size in enumerate(spatial, start=2):
        if value.shape[axis] == 1 and size > 1:
            value = value.repeat_interleave(size, axis) / (1 if transposed else size)
        elif value.shape[axis] > size:
            value = value.mean(axis, keepdim=True) if transposed else value.sum(axis, keepdim=True)
    return value.reshape(wanted)


def _image_channels(state: Mapping[str, Tensor]) -> int:
    """Channels of the image: those of the first kernel; 0 without kernels."""
    return next((value.shape[1] for value in state.values() if value.ndim > 3), 0)


def _adapted(
    value: Tensor, target: Tensor, module: nn.Module | None, channels: tuple[int, int]
) -> tuple[Tensor, str] | None:
    """The tensor in the target's shape, and how it got it; None if it does not fit."""
    if not isinstance(module, CONVOLUTIONS) or value.ndim not in (4, 5) or target.ndim not in (4, 5):
        return None
    words = []
    shape = [value.shape[0], value.shape[1], *target.shape[2:]]
    transposed = isinstance(module, TRANSPOSED)
    if (target.shape[1], value.shape[1]) == channels and channels[0] != channels[1] and not transposed:
        shape[1] = channels[0]
        words.append("image channels summed" if channels[0] < channels[1] else "image channels repeated")
    # Check the shape before computing anything, so that an absurd tensor costs nothing.
    if tuple(shape) != target.shape:
        return None
    depthwise = module.groups == module.in_channels > 1
    equal_axes = value.ndim == target.ndim
    if depthwise and equal_axes and all(0 < a <= b for a, b in zip(value.shape, target.shape, strict=True)):
        mode = "trilinear" if target.ndim == 5 else "bilinear"
        larger = functional.interpolate(value.to(target.dtype), target.shape[2:], mode=mode, align_corners=False)
        return larger, "kernel interpolated"
    if transposed and module.stride != module.kernel_size:
        return None
    kernel = fit_kernel(value.to(target.dtype), (*value.shape[:2], *target.shape[2:]), transposed)
    if kernel is None:
        return None
    if not equal_axes or value.shape[2:] != target.shape[2:]:
        words.append("kernel inflated" if target[0, 0].numel() >= value[0, 0].numel() else "kernel summed")
    return (kernel if kernel.shape == target.shape else deal_channels(kernel, channels[0])), " and ".join(words)
