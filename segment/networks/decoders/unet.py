"""The decoder of a U-Net: at each resolution, upsample, join the skip and run a stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from segment.networks.joins import Concatenate
from segment.networks.maps import Maps, finer, kernels_of, per_stage, step_between
from segment.networks.resample import TransposedConv, channels_of
from segment.networks.stages import BlockStage

Make = Callable[..., nn.Module]


class UNetDecoder(nn.Module):
    """Upsamples the encoder's coarsest map to the image's resolution.

    Where the encoder's finest map is coarser than the image, it continues in steps of two without a skip.

    Args:
        spatial_dims: 2 or 3.
        encoder: Only its features, strides and kernel_sizes are read.
        features: Channels of each stage, finest first. None: the encoder's, halved where it has none.
        depths: Blocks in each stage, finest first, or one number for all; 0 for none.
        stage: Factory of a stage, or one factory per stage, finest first; see :mod:`segment.networks.stages`.
        up: Factory of the upsampling layer, or one per stage, finest first; see :mod:`segment.networks.resample`.
        up_features: Requested output channels of the upsampling layer: those of the ``stage`` it leads to, of the
            ``skip`` it is joined with, of the map ``below``, or one number per stage, finest first.
        join: Factory of what joins skip and upsampled map, or one factory per skip, finest first; see
            :mod:`segment.networks.joins`.
        gating: Factory of a module that computes the gating signal of the joins from the encoder's coarsest map:
            Gating(spatial_dims, in_channels), with attribute out_channels. None: the joins get the map below them.
        bottleneck: Factory of a module that is applied to the coarsest map first:
            Bottleneck(spatial_dims, in_channels), with attribute out_channels.
        finest_stride: Image voxels in one voxel of the finest map, 1 unless the head upsamples.
        each: Further arguments of the stages and their upsampling layers that differ between stages: name to one
            value per stage, finest first.

    Attributes:
        features: Channels of each map it returns: those of its stages and, last, the coarsest map it starts from.
        strides: Image voxels in one voxel of each map, one number per axis.

    Raises:
        ValueError: When the lists do not fit the encoder.
    """

    def __init__(
        self,
        spatial_dims: int,
        encoder: Maps,
        features: Sequence[int] | None = None,
        depths: int | Sequence[int] = 2,
        stage: Make | Sequence[Make] = BlockStage,
        up: Make | Sequence[Make] = TransposedConv,
        up_features: str | Sequence[int] = "stage",
        join: Make | Sequence[Make] = Concatenate,
        gating: Make | None = None,
        bottleneck: Make | None = None,
        finest_stride: int = 1,
        each: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        super().__init__()
        skips = list(encoder.features)
        missing = [stride for stride in finer(encoder.strides[0]) if max(stride) >= finest_stride]
        free = len(missing)  # stages without a skip
        self.strides = missing + list(encoder.strides)
        kernels = [(3,) * spatial_dims] * free + kernels_of(encoder)
        n = len(self.strides) - 1
        if features is None:
            features = [max(1, skips[0] >> (free - i)) for i in range(free)] + skips[:-1]
        depths = [depths] * n if isinstance(depths, int) else depths
        stages, ups, joins = _factories(stage, n), _factories(up, n), _factories(join, n - free)
        if not len(features) == len(depths) == len(stages) == len(ups) == n or len(joins) != n - free:
            raise ValueError(
                f"{n} decoder stages of which {n - free} have a skip: {len(features)} features, {len(depths)} depths, "
                f"{len(stages)} stages, {len(ups)} ups and {len(joins)} joins do not fit"
            )
        if min(depths, default=0) < 0:
            raise ValueError(f"depths={depths}: the number of blocks must not be negative")
        up_channels, own = _up_channels(up_features, features, [0] * free + skips[:-1]), per_stage(each, n)
        self.gating = None if gating is None else gating(spatial_dims, skips[-1])
        self.bottleneck = nn.Identity() if bottleneck is None else bottleneck(spatial_dims, skips[-1])
        below = channels_of(self.bottleneck, skips[-1])
        self.features = [below]
        self.ups, self.joins, self.stages = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for i in reversed(range(n)):
            step = step_between(self.strides[i], self.strides[i + 1])
            requested = up_channels[i] or below
            layer = ups[i](spatial_dims, below, requested, kernels[i], step, **own[i])
            channels = channels_of(layer, requested)
            if i >= free:
                signal_channels = below if self.gating is None else channels_of(self.gating, below)
                self.joins.append(joins[i - free](spatial_dims, skips[i - free], channels, signal_channels))
                channels = channels_of(self.joins[-1], channels)
            self.ups.append(layer)
            self.stages.append(stages[i](spatial_dims, channels, features[i], depths[i], kernels[i], **own[i]))
            below = features[i] if depths[i] else channels
            self.features.insert(0, below)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map the encoder's maps, finest first, to this decoder's maps, finest first."""
        *skips, hidden = maps
        signal = None if self.gating is None else self.gating(hidden)
        hidden = self.bottleneck(hidden)
        results = [hidden]
        for i, (up, stage) in enumerate(zip(self.ups, self.stages, strict=True)):
            larger = up(hidden)
            if i < len(self.joins):
                larger = self.joins[i](skips.pop(), larger, hidden if signal is None else signal)
            hidden = stage(larger)
            results.insert(0, hidden)
        return results


def _factories(make: Make | Sequence[Make], n: int) -> list[Make]:
    return list(make) if isinstance(make, Sequence) else [make] * n


def _up_channels(up_features: str | Sequence[int], features: Sequence[int], skips: Sequence[int]) -> list[int]:
    """Requested channels of each upsampling layer; 0 stands for those of the map below."""
    if not isinstance(up_features, str):
        if len(up_features) != len(features):
            raise ValueError(f"{len(up_features)} up_features for {len(features)} decoder stages")
        return list(up_features)
    kinds = {"stage": list(features), "skip": list(skips), "below": [0] * len(features)}
    if up_features not in kinds:
        raise ValueError(f"up_features={up_features!r} must be one of {', '.join(kinds)} or numbers")
    return kinds[up_features]
