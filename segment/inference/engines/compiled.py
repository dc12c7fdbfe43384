"""A network that torch compiles to machine code, with its weights frozen into it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Compiled(nn.Module):
    """A network compiled at its first window, which takes from seconds to a minute.

    Args:
        network: In evaluation mode; its weights must not change any more.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # Frozen weights are packed once for the instructions of this processor.
        self.compiled = torch.compile(network, dynamic=False, options={"freezing": True})

    def forward(self, windows: Tensor) -> Tensor:
        """Compute the logits (n, output, *window) of windows (n, channel, *window), one by one."""
        return torch.cat([self.compiled(windows[i : i + 1].contiguous()) for i in range(len(windows))])
