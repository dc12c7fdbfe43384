"""What encoders and decoders say of the maps they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Maps(Protocol):
    """An encoder or a decoder, as others see it.

    Attributes:
        features: Channels of each map, finest first.
        strides: Image voxels in one voxel of each map, one number an axis, finest first.
    """

    features: list[int]
    strides: list[tuple[int, ...]]


def kernels_of(encoder: Maps) -> list[tuple[int, ...]]:
    """Kernel of each of the encoder's stages, where it says so; else 3 everywhere."""
    axes = len(encoder.strides[0])
    return list(getattr(encoder, "kernel_sizes", [(3,) * axes] * len(encoder.features)))


def step_between(fine: Sequence[int], coarse: Sequence[int]) -> tuple[int, ...]:
    """Voxels of the finer of two maps in one of the coarser, one number an axis."""
    return tuple(b // a for a, b in zip(fine, coarse, strict=True))


def finer(stride: Sequence[int]) -> list[tuple[int, ...]]:
    """The strides between the image and a map, in steps of two an axis, finest first; none where it is 1.

    Raises:
        ValueError: When a stride is no power of two.
    """
    levels: list[tuple[int, ...]] = []
    current = tuple(stride)
    while max(current) > 1:
        if any(s > 1 and s % 2 for s in current):
            raise ValueError(f"a stride of {tuple(stride)} is no power of two")
        current = tuple(max(1, s // 2) for s in current)
        levels.insert(0, current)
    return levels


def per_stage(each: Mapping[str, Sequence[Any]] | None, stages: int) -> list[dict[str, Any]]:
    """The arguments of each stage from lists of one value a stage.

    Raises:
        ValueError: When a list has another length.
    """
    each = each or {}
    for name, values in each.items():
        if len(values) != stages:
            raise ValueError(f"{name} has {len(values)} values for {stages} stages")
    return [{name: values[i] for name, values in each.items()} for i in range(stages)]
