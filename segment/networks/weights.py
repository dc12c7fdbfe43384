"""Load pretrained weights into a network with other input channels, kernels or dimensions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

# Name prefixes of classifiers, which encoders lack: torchvision's and EfficientNet-PyTorch's.
CLASSIFIERS = ("fc.", "classifier.", "heads.", "_conv_head.", "_bn1.", "_fc.")
# Files from 2017 have norm.1; torchvision renamed it norm1 when dots in module names were disallowed.
OLD_DENSENET = (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.")
# Batch counter of a BatchNorm; files from before torch 0.4.1 lack it, and it affects no result.
COUNTER = "num_batches_tracked"
RGB = 3


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first floating-point tensor with a value that is not finite; None if all are finite."""
    floating = {name: value for name, value in state.items() if value.is_floating_point()}
    return next((name for name, value in floating.items() if not bool(torch.isfinite(value).all())), None)


def load_encoder(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load published weights into an encoder: all of them, or none if any does not fit.

    The first convolution's RGB weights are distributed over the encoder's channels (see :func:`deal_channels`), and
    2D kernels are inflated to 3D (see :func:`inflate`).

    Args:
        encoder: One of :mod:`segment.networks.encoders.classic`, or one with the published names.
        state: Published name to tensor; those of the classifier are ignored.

    Raises:
        ValueError: When a tensor is missing, unexpected or has another shape; names the first.
    """
    own = encoder.state_dict()
    # An encoder knows the names of its tensors in the published weights.
    published: Callable[[str], str] = getattr(encoder, "published_name", str)
    first = next((name for name, value in own.items() if value.ndim > 3), None)
    remaining = {
        re.sub(*OLD_DENSENET, name): value
        for name, value in state.items()
        if name in own or not name.startswith(CLASSIFIERS)
    }
    fitted: dict[str, Tensor] = {}
    try:
        for name, target in own.items():
            value = remaining.pop(published(name), None)
            if value is None and name.endswith(COUNTER):
                value = target
            fitted[name] = _fit(value, target, published(name), first=name == first)
        for name, value in remaining.items():
            raise _mismatch(name, value, None)
    except ValueError as error:
        source = getattr(encoder, "published", None)
        raise ValueError(f"{error}; this encoder takes the weights of {source}" if source else str(error)) from None
    encoder.load_state_dict(fitted)


def deal_channels(weight: Tensor, channels: int) -> Tensor:
    """Adapt a kernel to another number of channels, keeping the response to equal channels.

    One channel gets the sum of all; more get them in turn, each divided by how often it appears (of RGB weights, 3/n
    where n is a multiple of 3). Of two channels for RGB, the second gets green, the first red and blue.

    Args:
        weight: (out, in, *kernel).
        channels: Number of channels, positive.

    Returns:
        (out, channels, *kernel), with the same sum over the channels as ``weight``.
    """
    given = weight.shape[1]
    index = torch.arange(max(channels, given))
    share = weight.new_zeros(channels, given)
    share[index % channels, index % given] = 1
    return torch.einsum("nc,oc...->on...", share / share.sum(dim=0), weight)


def inflate(weight: Tensor, size: int) -> Tensor:
    """Turn a 2D kernel into a 3D one whose response to a volume constant along z is the 2D one's.

    Carreira & Zisserman 2017 (I3D, arXiv 1705.07750, sec. 2.2): repeated along the new axis and divided by its size.

    Args:
        weight: (out, in, y, x).
        size: Size of the new axis.

    Returns:
        (out, in, size, y, x).
    """
    return (weight / size).unsqueeze(2).expand(-1, -1, size, -1, -1)


def _fit(value: Tensor | None, target: Tensor, name: str, first: bool = False) -> Tensor:
    """The tensor in the target's shape; ``first`` marks the first convolution."""
    if value is None:
        raise _mismatch(name, value, target)
    shape = list(value.shape)
    is_rgb = first and value.ndim >= 4 and shape[1] == RGB
    if is_rgb:
        shape[1] = target.shape[1]
    inflated = value.ndim == 4 and target.ndim == 5
    if inflated:
        shape.insert(2, target.shape[2])
    # Check the shape before computing anything, so that an absurd tensor costs nothing.
    if tuple(shape) != target.shape:
        raise _mismatch(name, value, target)
    # Convert now, so that a failure is reported before anything is loaded.
    value = value.to(target.dtype)
    if is_rgb and value.shape[1] != target.shape[1]:
        value = deal_channels(value, target.shape[1])
    return inflate(value, target.shape[2]) if inflated else value


def _mismatch(name: str, value: Tensor | None, target: Tensor | None) -> ValueError:
    actual, expected = ("absent" if t is None else tuple(t.shape) for t in (value, target))
    return ValueError(f"tensor {name[:200]!r} is {actual} in the weights, {expected} in the network")
