"""Tries the network and the loss on little data, before hours of training depend on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.networks.check import BATCH, check_outputs
from segment.networks.meta import meta_copy
from segment.text import one_line, printable


def check_network(network: nn.Module, patch_size: Sequence[int], channels: int, outputs: int) -> None:
    """Try a network on a patch.

    Args:
        network: The network.
        patch_size: Voxels of a patch in array order.
        channels: Channels of an image.
        outputs: Channels of the network's output that the labels need.

    Raises:
        UserError: When the network leaves a single voxel of the patch, or its output does not fit.
    """
    divisor = getattr(network, "divisor", None)
    if divisor and all(size <= d for size, d in zip(patch_size, divisor, strict=True)):
        raise UserError(
            f"plan.patch_size={list(patch_size)}: the network downsamples it to a single voxel. "
            "Give a larger patch or a network with fewer stages."
        )
    try:
        check_outputs(network, channels, outputs, patch_size)
    except ValueError as error:
        raise UserError(f"network: {type(network).__name__} {error}.") from error


def unused_parameters(network: nn.Module, patch_size: Sequence[int], channels: int) -> list[str]:
    """Names of the parameters that get no gradient from the outputs; only shapes are computed.

    Args:
        network: The network.
        patch_size: Voxels of a patch in array order.
        channels: Channels of an image.

    Returns:
        The names; empty where a network needs values, so that it cannot be told.
    """
    copied = meta_copy(network).train()
    try:
        with torch.random.fork_rng(devices=[]):
            outputs = copied(torch.empty(BATCH, channels, *patch_size, device="meta"))
        torch.stack(
            [output.sum() for output in ([outputs] if isinstance(outputs, Tensor) else outputs)]
        ).sum().backward()
    except Exception:  # a custom network may raise anything on tensors without values
        return []
    return [name for name, parameter in copied.named_parameters() if parameter.requires_grad and parameter.grad is None]


def check_loss(loss: nn.Module, name: str, labels: Labels, dims: int) -> None:
    """Try a loss on a small image.

    Raises:
        UserError: When it expects exclusive classes and the data set has overlapping regions, or vice versa.
    """
    weights, outputs = getattr(loss, "class_weights", None), list(labels.regions or labels)
    if weights is not None and len(weights) != len(outputs):
        raise UserError(
            f"loss.class_weights={weights}: are {len(weights)} numbers, but there are {len(outputs)} outputs. Give one "
            f"number for each of them, in this order: {', '.join(map(printable, outputs))}."
        )
    logits = torch.zeros(1, labels.outputs, *[8] * dims)
    try:
        loss(logits, logits if labels.regions else logits[:, :1])
    except (ValueError, TypeError, RuntimeError, IndexError, AssertionError) as error:
        if labels.regions:
            raise UserError(
                f"loss: {name} cannot be computed on regions ({', '.join(labels.regions)}), which overlap "
                f"({printable(one_line(error))}). Use loss=dice_ce, or a loss with sigmoids."
            ) from error
        raise UserError(
            f"loss: {name} cannot be computed on mutually exclusive labels ({printable(one_line(error))}). "
            "Use loss=dice_ce."
        ) from error
