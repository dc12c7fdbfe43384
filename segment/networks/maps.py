"""What encoders and decoders declare about the maps they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Maps(Protocol):
    """The attributes that an encoder or a decoder declares.

    Attributes:
        features: Channels of each map, finest first.
        strides: Image voxels in one voxel of each map, one number per axis, finest first.
    """

    features: list[int]
    strides: list[tuple[int, ...]]


def kernels_of(encoder: Maps) -> list[tuple[int, ...]]:
    """Kernel of each of the encoder's stages, where it declares them; otherwise 3 everywhere."""
    axes = len(encoder.strides[0])
    return list(getattr(encoder, "kernel_sizes", [(3,) * axes] * len(encoder.features)))


def step_between(fine: Sequence[int], coarse: Sequence[int]) -> tuple[int, ...]:
    """Voxels of the finer map in one voxel of the coarser map, one number per axis."""
    return tuple(b // a for a, b in zip(fine, coarse, strict=True))


def finer(stride: Sequence[int]) -> list[tuple[int, ...]]:
    """The strides between the image and a map, in steps of two per axis, finest first; empty for a stride of 1.

    Raises:
        ValueError: When a stride is not a power of two.
    """
    levels: list[tuple[int, ...]] = []
    current = tuple(stride)
    while max(current) > 1:
        if any(s > 1 and s % 2 for s in current):
            raise ValueError(f"a stride of {tuple(stride)} is not a power of two")
        current = tuple(max(1, s // 2) for s in current)
        levels.insert(0, current)
    return levels


def per_stage(each: Mapping[str, Sequence[Any]] | None, stages: int) -> list[dict[str, Any]]:
    """The arguments of each stage from lists with one value per stage.

    Raises:
        ValueError: When a list has the wrong length.
    """
    each = each or {}
    for name, values in each.items():
        if len(values) != stages:
            raise ValueError(f"{name} has {len(values)} values for {stages} stages")
    return [{name: values[i] for name, values in each.items()} for i in range(stages)]
