"""Runs a network on batches that fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


class FittingBatches:
    """Calls a network with as many windows as fit: a batch that is out of memory is halved, and those after it too.

    Args:
        network: Maps (n, channel, *window) to logits (n, output, *window).
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self.network = network
        self.most: int | None = None

    def __call__(self, windows: Tensor) -> Tensor:
        """The logits of all windows.

        Raises:
            torch.OutOfMemoryError: When a single window does not fit.
        """
        while True:
            size = min(self.most or len(windows), len(windows))
            try:
                parts = [self.network(some) for some in windows.split(size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            # Outside the handler, since the error keeps the network's tensors.
            self.most = size // 2
            _log.warning("%d windows at once are out of memory: from here on %d are computed.", size, self.most)
