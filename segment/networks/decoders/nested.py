"""The nested decoder of UNet++: a triangle of stages, each of which reads all stages left of it and the one below."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from segment.networks.maps import Maps, finer, kernels_of, step_between
from segment.networks.resample import TransposedConv, channels_of
from segment.networks.stages import BlockStage


class NestedDecoder(nn.Module):
    """UNet++ (Zhou et al. 2018, arXiv 1807.10165, fig. 1a; 2019, arXiv 1912.05074, eq. 1).

    Node (i, j) reads the encoder's map i, the nodes (i, 1..j-1) and the upsampled node (i + 1, j - 1).

    Args:
        spatial_dims: 2 or 3.
        encoder: Only its features, strides and kernel_sizes are read; its finest map has the image's resolution.
        depth: Blocks in each node.
        stage: Factory of a node; see :mod:`segment.networks.stages`.
        up: Factory of the upsampling layer; see :mod:`segment.networks.resample`.

    Attributes:
        features: Channels of each map it returns, all equal to those of the encoder's finest.
        strides: All 1: the maps are nodes (0, n), (0, n - 1), ..., (0, 1), deepest first, at the image's resolution.

    Raises:
        ValueError: When the encoder's finest map is coarser than the image.
    """

    def __init__(
        self,
        spatial_dims: int,
        encoder: Maps,
        depth: int = 2,
        stage: Callable[..., nn.Module] = BlockStage,
        up: Callable[..., nn.Module] = TransposedConv,
    ) -> None:
        super().__init__()
        features, strides = list(encoder.features), list(encoder.strides)
        if finer(strides[0]):
            raise ValueError(f"UNet++ needs an encoder whose first map has the image's resolution, not 1/{strides[0]}")
        kernels = kernels_of(encoder)
        self.levels = len(features)
        self.features = [features[0]] * (self.levels - 1)
        self.strides = [(1,) * spatial_dims] * (self.levels - 1)
        self.ups, self.stages = nn.ModuleDict(), nn.ModuleDict()
        for j in range(1, self.levels):
            for i in range(self.levels - j):
                step = step_between(strides[i], strides[i + 1])
                layer = up(spatial_dims, features[i + 1], features[i], kernels[i], step)
                channels = j * features[i] + channels_of(layer, features[i])
                self.ups[f"{i}_{j}"] = layer
                self.stages[f"{i}_{j}"] = stage(spatial_dims, channels, features[i], depth, kernels[i])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map the encoder's maps, finest first, to the nodes at the image's resolution, deepest first."""
        rows = [[hidden] for hidden in maps]
        for j in range(1, self.levels):
            for i in range(self.levels - j):
                larger = self.ups[f"{i}_{j}"](rows[i + 1][j - 1])
                rows[i].append(self.stages[f"{i}_{j}"](torch.cat([*rows[i], larger], dim=1)))
        return rows[0][:0:-1]
