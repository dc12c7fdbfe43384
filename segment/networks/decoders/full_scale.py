"""The decoder of UNet 3+: every stage reads every scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.layers.factories import Pool
from torch import Tensor, nn

from segment.networks.blocks import ConvBlock
from segment.networks.maps import Maps, finer, kernels_of, step_between
from segment.networks.resample import Interpolation
from segment.networks.stages import Stage


class FullScaleDecoder(nn.Module):
    """UNet 3+ (Huang et al. 2020, arXiv 2004.08790, fig. 2): full-scale skip connections.

    Stage i reads the encoder's maps 0..i, pooled to its resolution, and the coarser stages i+1..n, upsampled to it;
    each passes one convolution to ``width`` channels, and one convolution fuses their concatenation.

    Args:
        spatial_dims: 2 or 3.
        encoder: Only its features, strides and kernel_sizes are read; its finest map has the image's resolution.
        width: Channels that each scale contributes.
        block: Factory of a convolution with norm and activation; see :class:`segment.networks.blocks.ConvBlock`.

    Attributes:
        features: Channels of each map it returns: the decoder's stages and, last, the encoder's coarsest map.
        strides: Image voxels in one voxel of each map, one number per axis; the first is 1.

    Raises:
        ValueError: When the encoder's finest map is coarser than the image.
    """

    def __init__(
        self,
        spatial_dims: int,
        encoder: Maps,
        width: int = 64,
        block: Callable[..., nn.Module] = ConvBlock,
    ) -> None:
        super().__init__()
        features, strides = list(encoder.features), list(encoder.strides)
        if finer(strides[0]):
            raise ValueError(f"UNet 3+ needs an encoder whose first map has the image's resolution, not 1/{strides[0]}")
        kernels = kernels_of(encoder)
        n = len(features)
        self.features = [n * width] * (n - 1) + [features[-1]]
        self.strides = strides
        self.branches, self.fusions = nn.ModuleList(), nn.ModuleList()
        for i in range(n - 1):
            for k in range(n):
                step = step_between(strides[min(i, k)], strides[max(i, k)])
                resized: nn.Module = nn.Identity()
                if k < i:
                    resized = Pool[Pool.MAX, spatial_dims](step, step)
                elif k > i:
                    resized = Interpolation(spatial_dims, self.features[k], self.features[k], stride=step)
                channels = features[k] if k <= i else self.features[k]
                self.branches.append(Stage(resized, block(spatial_dims, channels, width, kernels[i])))
            self.fusions.append(Stage(block(spatial_dims, n * width, n * width, kernels[i])))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map the encoder's maps, finest first, to this decoder's maps and the encoder's coarsest, finest first."""
        results = list(maps)
        for i in reversed(range(len(maps) - 1)):
            # results holds the encoder's maps up to i and the decoder's after it.
            parts = [self.branches[i * len(maps) + k](hidden) for k, hidden in enumerate(results)]
            results[i] = self.fusions[i](torch.cat(parts, dim=1))
        return results
