"""The input of the second stage of a cascade: the image, and the first stage's mask as one channel per label.

Until it enters the network, the mask is a single channel of class indices behind those of the image (Isensee et al.
2021, https://doi.org/10.1038/s41592-020-01008-z). Padding is 0, hence background.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segment.data.labels import Labels
from segment.preprocessing.plan import Plan


def network_channels(plan: Plan, labels: Labels) -> int:
    """Channels of a network's input: those of the image and, in a second stage, one for each label but the background.

    Args:
        plan: The plan of the configuration.
        labels: Meaning of the masks.
    """
    return len(plan.normalization) + (len(labels) - 1 if plan.previous_stage else 0)


def one_hot(image: Tensor, labels: int) -> Tensor:
    """Replace the last channel, class indices, by one channel of 0 and 1 for each label.

    Args:
        image: (n, channel + 1, *spatial), any floating type.
        labels: Number of labels without the background.

    Returns:
        (n, channel + labels, *spatial) of the same type.
    """
    numbers = torch.arange(1, labels + 1, device=image.device).view(-1, *[1] * (image.ndim - 2))
    return torch.cat([image[:, :-1], (image[:, -1:] == numbers).to(image.dtype)], dim=1)


class OneHot(nn.Module):
    """A network of a second stage that takes the mask as one channel of class indices, see `one_hot`.

    Args:
        network: The network.
        labels: Number of labels without the background.
    """

    def __init__(self, network: nn.Module, labels: int) -> None:
        super().__init__()
        self.network = network
        self.labels = labels

    def forward(self, windows: Tensor) -> Tensor:
        """Logits of windows (n, channel + 1, *window)."""
        logits: Tensor = self.network(one_hot(windows, self.labels))
        return logits
