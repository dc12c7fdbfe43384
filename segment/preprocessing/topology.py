"""The U-Net for a patch: its strides, its kernels, and the number of values in its feature maps.

After Isensee et al. 2021 (nnU-Net, https://doi.org/10.1038/s41592-020-01008-z, supplement, "network topology") and, for
residual encoders, Isensee et al. 2024 (https://arxiv.org/abs/2404.09556), as implemented in version 2.8.1 of nnU-Net.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MIN_EDGE = 4  # minimum voxels along an axis of the coarsest feature maps


@dataclass(frozen=True)
class Topology:
    """Strides and kernels of a network.

    Attributes:
        strides: Stride of each stage, one number per axis; the first stage keeps the resolution.
        kernel_sizes: Kernel size of each stage, one number per axis.
    """

    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """Divisor of valid patch sizes along each axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))

    def padded(self, patch: Sequence[float]) -> tuple[int, ...]:
        """The smallest patch that contains this one and is divisible by `divisor`."""
        return tuple(math.ceil(size / by) * by for size, by in zip(patch, self.divisor, strict=True))


def find_topology(spacing: Sequence[float], patch: Sequence[float], exact: bool = False) -> Topology:
    """Halve the axes of a patch while they are long enough, finest first, until their spacings are similar.

    An axis is halved while it has at least 8 voxels and its spacing is within twice that of the finest such axis; a
    single remaining axis needs 12. The kernel along an axis is 1 until its spacing is within twice the finest, then 3.

    Args:
        spacing: Voxel size in mm, one number per axis.
        patch: Voxels, one number per axis; may be fractional (a median).
        exact: Halve an axis only while it is even, so that the patch can be used unchanged.

    Returns:
        Strides and kernels; the coarsest stage has kernel 3 along every axis.
    """
    mm, size = list(spacing), list(patch)
    dims = len(mm)
    kernel = [1] * dims
    strides, kernels = [(1,) * dims], []
    while True:
        divisible = [axis for axis in range(dims) if size[axis] >= 2 * MIN_EDGE and not (exact and size[axis] % 2)]
        if not divisible:
            break
        finest = min(mm[axis] for axis in divisible)
        halved = [axis for axis in divisible if mm[axis] / finest < 2]
        if len(halved) == 1 and size[halved[0]] < 3 * MIN_EDGE:
            break
        kernel = [3 if width == 3 or side / min(mm) < 2 else 1 for width, side in zip(kernel, mm, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in range(dims)))
        for axis in halved:
            mm[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
    return Topology(tuple(strides), (*kernels, (3,) * dims))


def count_values(
    patch: Sequence[int],
    strides: Sequence[Sequence[int]],
    features: Sequence[int],
    blocks: Sequence[int],
    decoder_blocks: Sequence[int],
    residual: bool,
    labels: int,
) -> int:
    """Count the values that the convolutions of a U-Net output for one patch, an estimate of its memory.

    Args:
        patch: Voxels, divisible by the strides.
        strides: Stride of each stage, one number per axis.
        features: Feature maps of each stage.
        blocks: Convolutions, or residual blocks of two convolutions, per encoder stage.
        decoder_blocks: Convolutions per decoder stage, finest first.
        residual: Whether the encoder has a stem and residual blocks, with a convolution on the shortcut if the size or
            the number of feature maps changes.
        labels: Output channels.

    Returns:
        Number of values, summed over encoder, decoder and the head at full resolution.
    """
    size, voxels = list(patch), []
    for stride in strides:
        size = [side // step for side, step in zip(size, stride, strict=True)]
        voxels.append(math.prod(size))
    maps = [count * size for count, size in zip(features, voxels, strict=True)]
    if residual:
        before = [features[0], *features]
        shortcuts = sum(
            maps[stage]
            for stage in range(len(maps))
            if before[stage] != features[stage] or any(step != 1 for step in strides[stage])
        )
        total = features[0] * math.prod(patch) + 2 * sum(map(math.prod, zip(blocks, maps, strict=True))) + shortcuts
    else:
        total = sum(map(math.prod, zip(blocks, maps, strict=True)))
    # Each decoder stage: the transposed convolution, then its other convolutions.
    total += sum((1 + count) * size for count, size in zip(decoder_blocks, maps, strict=False))
    return total + (labels * voxels[0] if len(maps) > 1 else 0)
