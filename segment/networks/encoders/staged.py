"""The encoder of a U-Net: one stage of any kind per resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from segment.networks.blocks import PerAxis, per_axis
from segment.networks.maps import per_stage
from segment.networks.resample import channels_of
from segment.networks.stages import BlockStage


class StagedEncoder(nn.Module):
    """Stages from the image's resolution down to the bottleneck.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        features: Channels of each stage's map, finest first; its length is the number of stages.
        strides: Stride into each stage, an integer or one per axis; the first is 1. None: 1, then 2 everywhere.
        kernel_sizes: Odd kernel of each stage, an integer or one per axis, or one integer for all.
        depths: Blocks in each stage, or one number for all.
        stage: Factory of a stage; see :mod:`segment.networks.stages`.
        down: Factory of the downsampling layer before each stage but the first; see
            :mod:`segment.networks.resample`. None: the first block of a stage is strided.
        stem: Factory of the layer before the first stage: Stem(spatial_dims, in_channels, out_channels, kernel_size).
        stem_features: Channels of the stem; None for those of the first stage.
        stem_kernel_size: Kernel of the stem; None for that of the first stage.
        bottleneck: Factory of the last stage; None for one like the others.
        each: Further arguments of the stages and the downsampling layers before them that differ between stages: name
            to one value per stage, e.g. ``{expansion: [2, 3, 4, 4, 4]}``.

    Attributes:
        features: Channels of each map.
        strides: Image voxels in one voxel of each map, one number per axis.
        kernel_sizes: Kernel of each stage.

    Raises:
        ValueError: When the lists differ in length or a value has the wrong number of axes.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        features: Sequence[int],
        strides: Sequence[PerAxis] | None = None,
        kernel_sizes: int | Sequence[PerAxis] = 3,
        depths: int | Sequence[int] = 2,
        stage: Callable[..., nn.Module] = BlockStage,
        down: Callable[..., nn.Module] | None = None,
        stem: Callable[..., nn.Module] | None = None,
        stem_features: int | None = None,
        stem_kernel_size: PerAxis | None = None,
        bottleneck: Callable[..., nn.Module] | None = None,
        each: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        super().__init__()
        n = len(features)
        strides = [1] + [2] * (n - 1) if strides is None else strides
        kernels = [kernel_sizes] * n if isinstance(kernel_sizes, int) else kernel_sizes
        depths = [depths] * n if isinstance(depths, int) else depths
        if not n or not len(strides) == len(kernels) == len(depths) == n:
            raise ValueError(
                f"{n} features, {len(strides)} strides, {len(kernels)} kernel_sizes and {len(depths)} depths differ"
            )
        if min(depths) < 1:
            raise ValueError(f"depths={depths}: every stage has at least one block")
        own = per_stage(each, n)
        steps = [per_axis(s, spatial_dims) for s in strides]
        if steps[0] != (1,) * spatial_dims:
            raise ValueError(f"strides[0]={strides[0]} must be 1: the logits have the image's resolution")
        self.features = list(features)
        self.strides = [tuple(int(s) for s in row) for row in np.cumprod(steps, axis=0)]
        self.kernel_sizes = [per_axis(k, spatial_dims) for k in kernels]
        channels = in_channels
        self.stem: nn.Module = nn.Identity()
        if stem is not None:
            channels = stem_features or features[0]
            self.stem = stem(spatial_dims, in_channels, channels, stem_kernel_size or self.kernel_sizes[0])
        self.downs, self.stages = nn.ModuleList(), nn.ModuleList()
        for i in range(n):
            layer: nn.Module = nn.Identity()
            if i and down is not None:
                layer = down(spatial_dims, channels, features[i], self.kernel_sizes[i], steps[i], **own[i])
                channels = channels_of(layer, features[i])
            make = bottleneck if bottleneck is not None and i == n - 1 else stage
            step = steps[i] if down is None else 1
            self.downs.append(layer)
            self.stages.append(
                make(spatial_dims, channels, features[i], depths[i], self.kernel_sizes[i], step, **own[i])
            )
            channels = features[i]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (batch, in_channels, *spatial) to the maps, finest first; sizes must be multiples of strides[-1]."""
        hidden, maps = self.stem(image), []
        for down, stage in zip(self.downs, self.stages, strict=True):
            hidden = stage(down(hidden))
            maps.append(hidden)
        return maps
