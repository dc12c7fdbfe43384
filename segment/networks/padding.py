"""Pad, run, crop: lets a network that needs sizes divisible by a number take any input size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def pad_to_divisor(image: Tensor, divisor: Sequence[int]) -> Tensor:
    """Pad the far end of every spatial axis to the next multiple, repeating the border.

    Where that leaves one multiple along every axis, the last axis is padded to two: otherwise the network's coarsest
    map would have a single voxel, which no norm over voxels accepts.

    Args:
        image: (batch, channel, *spatial).
        divisor: One positive integer per spatial axis.

    Returns:
        The padded tensor; the input itself when no padding is needed.
    """
    missing = [-size % d for size, d in zip(image.shape[2:], divisor, strict=True)]
    if max(divisor) > 1 and all(size <= d for size, d in zip(image.shape[2:], divisor, strict=True)):
        missing[-1] += divisor[-1]
    if not any(missing):
        return image
    padding = [p for end in reversed(missing) for p in (0, end)]
    return functional.pad(image, padding, mode="replicate")


def crop_to(output: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop the far end of every spatial axis so that (batch, channel, *shape) remains."""
    index: Any = (..., *(slice(0, size) for size in shape))
    return output[index]


class PadToDivisor(nn.Module):
    """Lets a network that needs sizes divisible by ``divisor`` take any size.

    Args:
        network: Constructor of the inner network, called with the keyword arguments below.
        divisor: Every spatial size is padded to a multiple of this.
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        out_channels: Classes, background included.
    """

    def __init__(
        self, network: Callable[..., nn.Module], divisor: int, spatial_dims: int, in_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        if divisor < 1:
            raise ValueError(f"divisor={divisor} must be positive")
        self.network = network(spatial_dims=spatial_dims, in_channels=in_channels, out_channels=out_channels)
        self.divisor = (divisor,) * spatial_dims

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to logits (batch, out_channels, *spatial)."""
        output: Tensor = self.network(pad_to_divisor(image, self.divisor))
        return crop_to(output, image.shape[2:])


def count_parameters(network: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def channels_last(network: nn.Module, spatial_dims: int) -> nn.Module:
    """The network with its weights in channels-last layout (in place)."""
    return laid_out(network, spatial_dims, "channels_last")


def laid_out(network: nn.Module, spatial_dims: int, layout: str) -> nn.Module:
    """The network with its weights in a layout of `memory_format` (in place)."""
    # torch's stubs lack this argument of Module.to.
    moved: nn.Module = network.to(memory_format=memory_format(spatial_dims, layout))  # type: ignore[call-overload]
    return moved


def memory_format(spatial_dims: int, layout: str = "channels_last") -> torch.memory_format:
    """Memory layout of arrays with two or three spatial axes.

    Args:
        spatial_dims: 2 or 3.
        layout: ``channels_last``, in which convolutions run up to twice as fast on CPUs and tensor cores; or
            ``contiguous``.
    """
    if layout == "contiguous":
        return torch.contiguous_format
    return torch.channels_last_3d if spatial_dims == 3 else torch.channels_last
