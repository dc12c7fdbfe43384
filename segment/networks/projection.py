"""An encoder with the projection that its pretraining compares, which is left out afterwards."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segment.networks.padding import pad_to_divisor


class Projected(nn.Module):
    """An encoder, what its coarsest map has on average and at most, and a projection.

    The mean alone would say little: instance norm, which most segmentation networks have, makes it almost constant.

    Args:
        network: Its encoder is used; no other part is trained.
        hidden: Hidden units of the projection.
        features: Length of an embedding.

    Attributes:
        encoder: The network's encoder.

    Raises:
        ValueError: When the network has no encoder.
    """

    def __init__(self, network: nn.Module, hidden: int, features: int) -> None:
        super().__init__()
        encoder: Any = getattr(network, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise ValueError(f"{type(network).__name__} has no encoder")
        self.encoder = encoder
        self.divisor: Any = network.divisor
        channels: Any = encoder.features
        self.projector = self.projection(2 * channels[-1], hidden, features)

    @staticmethod
    def projection(inputs: int, hidden: int, features: int) -> nn.Sequential:
        """What is trained beside the encoder."""
        return mlp(inputs, hidden, features)

    def represent(self, image: Tensor) -> Tensor:
        """Map (batch, channel, *spatial) to means and maxima of the coarsest map (batch, twice its channels)."""
        return pooled(self.encoder(pad_to_divisor(image, self.divisor)))

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, channel, *spatial) to embeddings (batch, features)."""
        result: Tensor = self.projector(self.represent(image))
        return result


class Bootstrapped(Projected):
    """BYOL's online network with its predictor, and the target that follows it (arXiv 2006.07733, sec. 3.1).

    As in the authors' code, projection and predictor end without bias. Unlike there, batch norm without weights ends
    the projection (SimSiam: Chen and He 2021, arXiv 2011.10566, sec. 3): in short trainings with Adam, what all
    embeddings have in common would outweigh their differences.

    Args:
        network: See `Projected`.
        hidden: Hidden units of projection and predictor.
        features: Length of an embedding.
    """

    def __init__(self, network: nn.Module, hidden: int, features: int) -> None:
        super().__init__(network, hidden, features)
        self.target = nn.ModuleDict(
            {"encoder": copy.deepcopy(self.encoder), "projector": copy.deepcopy(self.projector)}
        )
        self.target.requires_grad_(False)
        self.predictor = mlp(features, hidden, features, bias=False)

    @staticmethod
    def projection(inputs: int, hidden: int, features: int) -> nn.Sequential:
        """See `Projected`; its outputs have mean 0 and variance 1 over a batch."""
        return mlp(inputs, hidden, features, bias=False).append(nn.BatchNorm1d(features, affine=False))

    def predict(self, image: Tensor) -> Tensor:
        """The online network's prediction of the target's embedding, (batch, features)."""
        result: Tensor = self.predictor(self(image))
        return result

    @torch.no_grad()
    def aim(self, image: Tensor) -> Tensor:
        """The target's embedding, (batch, features)."""
        hidden = self.target["encoder"](pad_to_divisor(image, self.divisor))
        result: Tensor = self.target["projector"](pooled(hidden))
        return result

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the target's parameters towards the online network's: momentum times old plus the rest times new."""
        for name in self.target:
            for old, new in zip(self.target[name].parameters(), getattr(self, name).parameters(), strict=True):
                old.lerp_(new, 1 - momentum)


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Means and maxima of the last of an encoder's maps: (batch, channel, *spatial) to (batch, 2 channel)."""
    values = maps[-1].flatten(2)
    return torch.cat([values.mean(2), values.amax(2)], dim=1)


def mlp(inputs: int, hidden: int, outputs: int, bias: bool = True) -> nn.Sequential:
    """Linear, batch norm, ReLU, linear (Grill et al. 2020, arXiv 2006.07733, sec. 3.3).

    Args:
        inputs: Length of the input.
        hidden: Hidden units.
        outputs: Length of the output.
        bias: Whether the output has one.
    """
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs, bias=bias),
    )
