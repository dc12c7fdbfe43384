"""A network that another program computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from segment.errors import UserError

CLOSE = {"32-true": 1e-3}
"""Largest mean difference of logits by precision, in standard deviations of the network's logits."""

CLOSE_IN_HALF_PRECISION = 0.1


class Engine(nn.Module):
    """Takes a network's place: maps windows (n, channel, *window) to logits (n, output, *window), on the CPU.

    Windows are computed one by one, which is the fastest on a CPU: a window alone fits its caches better than a batch.

    Args:
        infer: Maps one window (1, channel, *window) to logits (1, output, *window), both float32 and contiguous. It may
            reuse the memory of its result.
    """

    def __init__(self, infer: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.infer = infer
        # A network's device is that of its parameters; this one has no value.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Compute the logits (n, output, *window) float32 of windows (n, channel, *window)."""
        given = windows.detach().float().contiguous().numpy()
        return torch.cat([torch.from_numpy(self.infer(given[i : i + 1])).clone() for i in range(len(given))])


class Checked(nn.Module):
    """An engine whose first window is compared with the network it was made of.

    Args:
        network: The network in torch.
        engine: What takes its place.
        name: Of the engine, for the message.
        precision: Lightning's name of the precision that both compute in.
    """

    def __init__(self, network: nn.Module, engine: nn.Module, name: str, precision: str) -> None:
        super().__init__()
        self.network, self.engine, self.name = network, engine, name
        self.limit = CLOSE.get(precision, CLOSE_IN_HALF_PRECISION)
        self.unchecked = True

    def forward(self, windows: Tensor) -> Tensor:
        """Compute the logits (n, output, *window) of windows (n, channel, *window).

        Raises:
            UserError: When those of the first window differ from the network's.
        """
        logits: Tensor = self.engine(windows)
        if self.unchecked:
            expected = self.network(windows[:1]).float()
            difference = float((logits[:1].float() - expected).abs().mean() / expected.std())
            if not difference <= self.limit:  # NaN compares as false
                raise UserError(
                    f"inference.engine={self.name}: its logits differ from those of torch by {difference:.2g} standard "
                    f"deviations on average, more than {self.limit:g}. Predict with inference.engine=torch."
                )
            self.unchecked = False
        return logits
