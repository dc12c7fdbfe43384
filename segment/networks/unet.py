"""The U-Net: any encoder, any decoder, and heads that return logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segment.errors import did_you_mean
from segment.networks.encoders.classic import CLASSIC
from segment.networks.heads import ConvHead
from segment.networks.padding import crop_to, pad_to_divisor
from segment.networks.stages import Stage


class UNet(nn.Module):
    """An encoder, a decoder, and a convolution to one logit per class.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        out_channels: Classes, background included.
        encoder: Factory called with spatial_dims and in_channels, or the name of a classic encoder.
        decoder: Factory called with spatial_dims and the encoder.
        deep_supervision: How many additional decoder maps also return logits during training, each at its own
            resolution.
        average: For prediction, return the mean logits of all heads instead of those of the first; for decoders
            whose maps all have the image's resolution (UNet++, "accurate mode").
        head: Factory of a head; see :mod:`segment.networks.heads`.
        he_slope: Initialise all convolutions from He et al.'s normal distribution for a leaky ReLU of this slope, and
            their biases with zero (arXiv 1502.01852); None for torch's default initialisation.
        checkpointing: Recompute the stages' activations in the backward pass instead of storing them: less memory,
            about a third more time.

    Attributes:
        encoder: The encoder.
        decoder: The decoder.
        divisor: The image is padded to a multiple of this along each axis.

    Raises:
        ValueError: When encoder, decoder and deep_supervision do not fit together.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        encoder: str | Callable[..., nn.Module],
        decoder: Callable[..., nn.Module],
        deep_supervision: int = 0,
        average: bool = False,
        head: Callable[..., nn.Module] = ConvHead,
        he_slope: float | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(encoder, str):
            if encoder not in CLASSIC:
                near = did_you_mean(encoder, CLASSIC)
                raise ValueError(f"encoder={encoder!r} is not a classic encoder.{near} There are {', '.join(CLASSIC)}")
            encoder = CLASSIC[encoder]
        made: Any = encoder(spatial_dims=spatial_dims, in_channels=in_channels)
        self.encoder = made
        self.divisor: tuple[int, ...] = tuple(getattr(made, "divisor", made.strides[-1]))
        made = decoder(spatial_dims=spatial_dims, encoder=made)
        self.decoder = made
        self.strides: list[tuple[int, ...]] = made.strides
        features: list[int] = made.features
        if not 0 <= deep_supervision < len(features):
            raise ValueError(f"deep_supervision={deep_supervision} must be between 0 and {len(features) - 1}")
        if deep_supervision and max(self.strides[0]) > 1:
            raise ValueError("deep_supervision needs a decoder whose first map has the image's resolution")
        self.heads = nn.ModuleList(
            head(spatial_dims, channels, out_channels) for channels in features[: deep_supervision + 1]
        )
        if average and any(step != 1 for stride in self.strides[: deep_supervision + 1] for step in stride):
            raise ValueError("average=true needs a decoder whose maps all have the image's resolution")
        self.average = average
        if he_slope is not None:
            he_normal(self, he_slope)
        for module in self.modules():
            if isinstance(module, Stage):
                module.checkpointing = checkpointing

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Compute the logits of every voxel.

        Args:
            image: (batch, in_channels, *spatial), any spatial size.

        Returns:
            Logits (batch, out_channels, *spatial). During training with deep supervision, a list of logits, finest
            first, each at the resolution of its decoder stage and cropped to the image.
        """
        shape = image.shape[2:]
        maps = self.decoder(self.encoder(pad_to_divisor(image, self.divisor)))
        if len(self.heads) == 1 or not (self.training or self.average):
            return crop_to(self.heads[0](maps[0]), shape)
        logits = [
            crop_to(head(hidden), [-(-size // step) for size, step in zip(shape, stride, strict=True)])
            for head, hidden, stride in zip(self.heads, maps, self.strides, strict=False)
        ]
        return logits if self.training else torch.stack(logits).mean(dim=0)


def he_normal(network: nn.Module, slope: float) -> None:
    """Initialise convolutions from N(0, 2 / ((1 + slope^2) fan_in)) and their biases with 0 (arXiv 1502.01852)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=slope)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
