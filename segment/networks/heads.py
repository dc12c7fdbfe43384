"""Heads: map a decoder's output to logits. Built as ``Head(spatial_dims, in_channels, out_channels, ...)``."""

from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import nn

from segment.networks.blocks import ConvBlock
from segment.networks.resample import TransposedConv


class ConvHead(nn.Sequential):
    """One convolution.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the map.
        out_channels: Classes.
        kernel_size: Odd kernel size.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__(
            Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        )


class VNetHead(nn.Sequential):
    """A 5x5x5 convolution and a 1x1x1 convolution with a PReLU between them (V-Net, as in the authors' code)."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__(
            ConvBlock(spatial_dims, in_channels, out_channels, 5, norm=None, act="prelu"),
            Conv[Conv.CONV, spatial_dims](out_channels, out_channels, 1),
        )


class UpHead(nn.Sequential):
    """A transposed convolution with kernel and stride 2, for a map at half the image's resolution (LinkNet)."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__(TransposedConv(spatial_dims, in_channels, out_channels, stride=2))
