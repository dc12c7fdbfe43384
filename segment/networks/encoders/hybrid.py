"""TransUNet's encoder: a residual network whose coarsest map is the transformer's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn
from torch.nn import functional

from segment.networks.blocks import ConvBlock, PerAxis, per_axis
from segment.networks.encoders.vit import ViT
from segment.networks.stages import Stage


def standardized(weight: Tensor) -> Tensor:
    """A convolution's weight with mean 0 and variance 1 for each output (Qiao et al. 2019, arXiv 1903.10520)."""
    variance, mean = torch.var_mean(weight, dim=tuple(range(1, weight.ndim)), correction=0, keepdim=True)
    return (weight - mean) / torch.sqrt(variance + 1e-5)


class StandardizedConv2d(nn.Conv2d):
    """2D convolution with standardised weights."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride)."""
        return self._conv_forward(input, standardized(self.weight), self.bias)


class StandardizedConv3d(nn.Conv3d):
    """3D convolution with standardised weights."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride)."""
        return self._conv_forward(input, standardized(self.weight), self.bias)


class Bottleneck(nn.Module):
    """Three standardised convolutions with group norms, added to a skip (Big Transfer: Kolesnikov et al. 2020).

    The paper calls it pre-activated, but its code has norm and activation after each convolution.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels, a multiple of 128.
        stride: Stride of the middle convolution.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        inner = out_channels // 4
        self.convolutions = nn.Sequential(
            _convolution(spatial_dims, in_channels, inner, 1),
            nn.ReLU(inplace=True),
            _convolution(spatial_dims, inner, inner, 3, stride),
            nn.ReLU(inplace=True),
            _convolution(spatial_dims, inner, out_channels, 1),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = _convolution(spatial_dims, in_channels, out_channels, 1, stride, out_channels, 1e-5)

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride)."""
        return functional.relu(self.skip(image) + self.convolutions(image))


def _convolution(
    dims: int, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 32, eps: float = 1e-6
) -> nn.Sequential:
    convolution = StandardizedConv3d if dims == 3 else StandardizedConv2d
    return nn.Sequential(
        convolution(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.GroupNorm(groups, outputs, eps)
    )


class HybridViT(nn.Module):
    """ResNet-50 with standardised convolutions to stride 16, then the transformer on its map (R50+ViT-B/16).

    Chen et al. 2021 (TransUNet), sec. 3.2, arXiv 2102.04306, and the authors' code. The transformer's output passes
    one more convolution, the first of the authors' decoder.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        width: Channels of the first convolution, a multiple of 32.
        blocks: Residual blocks at strides 4, 8 and 16.
        out_features: Channels of the coarsest map.
        image_size: Size that the position embedding is made for, a multiple of 16. None: 224 in 2D, 96 in 3D.
        dropout: Probability of dropping a value after the position embedding and in the MLPs.
        **transformer: hidden, depth, heads and mlp of :class:`ViT`.

    Attributes:
        features: Channels of the maps at strides 2, 4, 8 and 16.
        strides: Image voxels in one voxel of each map, finest first.

    Raises:
        ValueError: When an argument is out of range.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        width: int = 64,
        blocks: Sequence[int] = (3, 4, 9),
        out_features: int = 512,
        image_size: PerAxis | None = None,
        dropout: float = 0.0,
        depth: int = 12,
        **transformer: Any,
    ) -> None:
        super().__init__()
        if width < 32 or width % 32 or len(blocks) != 3 or min(blocks) < 1:
            raise ValueError(f"width={width} must be a multiple of 32, blocks={blocks} three positive numbers")
        if image_size is None:
            image_size = 96 if spatial_dims == 3 else 224
        size = per_axis(image_size, spatial_dims)
        if any(s % 16 for s in size):
            raise ValueError(f"image_size={image_size} must be a multiple of 16")
        self.features = [width, 4 * width, 8 * width, out_features]
        self.strides = [(2**i,) * spatial_dims for i in (1, 2, 3, 4)]
        self.root = nn.Sequential(_convolution(spatial_dims, in_channels, width, 7, 2), nn.ReLU(inplace=True))
        self.pool = Pool[Pool.MAX, spatial_dims](kernel_size=3, stride=2)
        channels = [width, 4 * width, 8 * width, 16 * width]
        self.stages = nn.ModuleList(
            Stage(
                Bottleneck(spatial_dims, channels[i], channels[i + 1], 2 if i else 1),
                *(Bottleneck(spatial_dims, channels[i + 1], channels[i + 1]) for _ in range(count - 1)),
            )
            for i, count in enumerate(blocks)
        )
        self.transformer = ViT(
            spatial_dims,
            channels[-1],
            patch_size=1,
            image_size=[s // 16 for s in size],
            depth=depth,
            taps=(depth,),
            dropout=dropout,
            eps=1e-6,
            **transformer,
        )
        hidden = self.transformer.features[-1]
        self.final_layers = ("transformer", "last")  # for learning rates by layer
        self.last = ConvBlock(spatial_dims, hidden, out_features, norm="batch", act="relu", bias=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (batch, in_channels, *spatial) to maps of ``features`` channels at ``strides``, finest first."""
        maps = [self.root(image)]
        hidden = self.pool(maps[0])
        for stage in self.stages:
            hidden = stage(hidden)
            maps.append(hidden)
        # The pooling without padding leaves this map one voxel short; the authors add zeros at the far end.
        maps[1] = functional.pad(maps[1], (0, 1) * (image.ndim - 2))
        maps[3] = self.last(self.transformer(maps[3])[-1])
        return maps
