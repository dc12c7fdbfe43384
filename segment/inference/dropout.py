"""Monte Carlo dropout: passes with the network's dropout active, as samples of what it might have learned.

Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation".
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from segment.errors import UserError


def require_dropout(network: nn.Module, passes: int) -> None:
    """Check that a network drops anything, each of several.

    Raises:
        UserError: When it does not, or another engine than torch computes it.
    """
    members = list(network) if isinstance(network, nn.ModuleList) else [network]
    if not all(any(_layers(member)) for member in members):
        raise UserError(
            f"inference.dropout={passes}: the network has no dropout, or an engine other than torch computes it. Train "
            "one that has, such as network=segresnet or network.encoder.stage.dropout=0.1, or predict without."
        )


def activate(network: nn.Module) -> None:
    """Put the dropout layers of a network in evaluation mode back into training mode; ``network.eval()`` ends it."""
    for layer in _layers(network):
        layer.train()


def content_of(image: Tensor) -> int:
    """A number that stands for the voxels of an image."""
    return zlib.crc32(image.detach().cpu().contiguous().numpy().tobytes())


@contextlib.contextmanager
def drawn(numbers: Sequence[int], device: torch.device) -> Iterator[None]:
    """Draw from numbers alone; random states are as before afterwards.

    Args:
        numbers: Integers that say what is drawn for, such as a scan, a pass and a window.
        device: Where it is drawn.
    """
    seed = zlib.crc32(" ".join(map(str, numbers)).encode())
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _layers(network: nn.Module) -> Iterator[_DropoutNd]:
    return (layer for layer in network.modules() if isinstance(layer, _DropoutNd) and layer.p > 0)
