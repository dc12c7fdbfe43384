"""Intensity changes of one channel, in place. Images are normalised: mean about 0, standard deviation about 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def noise(channel: Tensor, deviation: float, generator: torch.Generator) -> None:
    """Add Gaussian noise.

    Args:
        channel: (*spatial), changed in place.
        deviation: Standard deviation, in standard deviations of the image.
        generator: Draws the noise; on the channel's device.
    """
    channel.add_(torch.empty_like(channel).normal_(generator=generator), alpha=deviation)


def blur(channel: Tensor, sigmas: Sequence[float]) -> None:
    """Smooth with a Gaussian, mirrored at the border, truncated at about 3 sigma as in batchgeneratorsv2.

    Args:
        channel: (*spatial), changed in place.
        sigmas: Standard deviation in voxels along each axis.
    """
    for axis, sigma in enumerate(sigmas):
        n = channel.shape[axis]
        radius = min(_odd(6 * sigma + 0.5) // 2, n - 1)
        kernel = torch.exp(-0.5 * (torch.arange(radius + 1) / sigma) ** 2)
        weights = (kernel / (2 * kernel.sum() - 1)).tolist()
        before = channel.clone()
        channel.mul_(weights[0])
        # Add shifted copies: a convolution of one channel takes ten times as long on a CPU.
        for shift, weight in enumerate(weights[1:], start=1):
            channel.narrow(axis, shift, n - shift).add_(before.narrow(axis, 0, n - shift), alpha=weight)
            channel.narrow(axis, 0, n - shift).add_(before.narrow(axis, shift, n - shift), alpha=weight)
            channel.narrow(axis, 0, shift).add_(before.narrow(axis, 1, shift).flip(axis), alpha=weight)
            channel.narrow(axis, n - shift, shift).add_(
                before.narrow(axis, n - 1 - shift, shift).flip(axis), alpha=weight
            )


def brightness(channel: Tensor, factor: float) -> None:
    """Multiply by a factor, in place."""
    channel.mul_(factor)


def shift(channel: Tensor, amount: float) -> None:
    """Add a constant, in place."""
    channel.add_(amount)


def contrast(channel: Tensor, factor: float, keep_range: bool = True) -> None:
    """Scale the distance from the mean.

    Args:
        channel: (*spatial), changed in place.
        factor: Above 1 for more contrast.
        keep_range: Whether values are clipped to the original range.
    """
    low, high = torch.aminmax(channel)
    mean = channel.mean()
    channel.sub_(mean).mul_(factor).add_(mean)
    if keep_range:
        channel.clamp_(low, high)


def low_resolution(channel: Tensor, factors: Sequence[float]) -> None:
    """Take the nearest voxels of a coarser grid and interpolate linearly between them.

    Args:
        channel: (*spatial), changed in place.
        factors: Size of the coarser grid along each axis as a fraction of the channel's, at most 1.
    """
    coarse = [max(1, round(size * factor)) for size, factor in zip(channel.shape, factors, strict=True)]
    small = functional.interpolate(channel[None, None], coarse, mode="nearest-exact")
    mode = "trilinear" if channel.ndim == 3 else "bilinear"
    channel.copy_(functional.interpolate(small, channel.shape, mode=mode, align_corners=False)[0, 0])


def gamma(channel: Tensor, exponent: float, inverted: bool = False) -> None:
    """Apply a gamma curve within the range of intensities, keeping mean and standard deviation.

    Args:
        channel: (*spatial), changed in place.
        exponent: Values above 1 darken the middle of the range.
        inverted: Whether the curve is applied to the negative of the image, which brightens it instead.
    """
    if inverted:
        channel.neg_()
    low, high = torch.aminmax(channel)
    mean = channel.mean()
    deviation = torch.linalg.vector_norm(channel - mean)
    channel.sub_(low).div_((high - low).clamp_min(1e-7)).clamp_min_(0)
    channel.log_().mul_(exponent).exp_()  # a power, in half the time
    channel.sub_(channel.mean())
    channel.mul_(deviation / torch.linalg.vector_norm(channel).clamp_min(1e-7)).add_(mean)
    if inverted:
        channel.neg_()


def blank(channel: Tensor, boxes: Sequence[Sequence[slice]]) -> None:
    """Fill boxes with the channel's mean, in place, one after the other."""
    mean = channel.mean()
    for box in boxes:
        channel[tuple(box)] = mean


def _odd(number: float) -> int:
    """The nearest odd number, rounded as in batchgeneratorsv2."""
    rounded = round(number)
    if rounded % 2:
        return rounded
    return rounded + 1 if number >= rounded else rounded - 1
