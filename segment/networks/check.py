"""Checks what a network returns, before hours of training depend on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segment.networks.meta import meta_copy
from segment.text import one_line

BATCH = 2  # batch normalisation needs two values


def check_outputs(network: nn.Module, channels: int, outputs: int, patch: Sequence[int]) -> None:
    """Check the outputs for one batch, in evaluation and in training mode; only shapes are computed where possible.

    Args:
        network: On any device; unchanged.
        channels: Channels of the image.
        outputs: Channels that the output must have.
        patch: Voxels of the image, which the output must have too.

    Raises:
        ValueError: When the network does not accept the image, or returns something else than logits (batch, output,
            *patch), or during training a list of them, finest first.
    """
    shape = (BATCH, channels, *patch)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        _check(_evaluated(network, shape), outputs, patch, may_be_list=False)
        try:
            trained = meta_copy(network).train()(torch.empty(shape, device="meta"))
        except Exception:  # a custom network may raise anything on tensors without values
            return
        _check(trained, outputs, patch, may_be_list=True)


def _evaluated(network: nn.Module, shape: Sequence[int]) -> Any:
    """The output in evaluation mode; computed for zeros if the network needs values."""
    try:
        return meta_copy(network).eval()(torch.empty(shape, device="meta"))
    except Exception:  # a custom network may raise anything on tensors without values
        was_training, parameter = network.training, next(network.parameters(), torch.empty(0))
        try:
            return network.eval()(torch.zeros(shape, device=parameter.device))
        except Exception as error:
            size = "x".join(map(str, shape[2:]))
            raise ValueError(
                f"cannot be computed on the plan's patches of {size} voxels ({type(error).__name__}: {one_line(error)})"
            ) from error
        finally:
            network.train(was_training)


def _check(output: Any, outputs: int, patch: Sequence[int], may_be_list: bool) -> None:
    mode = "during training" if may_be_list else "in evaluation mode"
    if isinstance(output, Tensor):
        _check_map(output, outputs, mode)
        finest = output
    elif (
        may_be_list and isinstance(output, list | tuple) and output and all(isinstance(item, Tensor) for item in output)
    ):
        for item in output:
            _check_map(item, outputs, mode)
        finest = output[0]
    else:
        allowed = ", or during training a list of them, finest first" if isinstance(output, list | tuple) else ""
        raise ValueError(f"returns a {type(output).__name__} {mode}. Return the logits as one tensor{allowed}")
    if tuple(finest.shape[2:]) != tuple(patch):
        size, expected = ("x".join(map(str, found)) for found in (finest.shape[2:], patch))
        raise ValueError(
            f"returns {size} voxels {mode} for a patch of {expected}. Make it return as many as it is given"
        )


def _check_map(output: Tensor, outputs: int, mode: str) -> None:
    if output.ndim < 3 or output.shape[1] != outputs:
        found = output.shape[1] if output.ndim > 1 else 0
        raise ValueError(
            f"returns {found} channels {mode}, but the labels need {outputs}. Give its last layer out_channels"
        )
