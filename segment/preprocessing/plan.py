"""Decisions a data set asks for: spacing, patch, batch and normalisation, read from headers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segment.data.geometry import Grid, canonical_grid, canonical_spacing
from segment.errors import UserError

NORMALIZATIONS = ("zscore", "none")


@dataclass(frozen=True)
class Plan:
    """How scans are prepared and cut. Axes in array order: z, y, x after orientation to RAS; y, x in 2D.

    Attributes:
        spacing: Voxel size in mm that every scan is resampled to.
        patch_size: Voxels of a training patch and of an inference window.
        batch_size: Patches a step.
        normalization: One of ``zscore`` or ``none`` a channel.
    """

    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    normalization: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as written to model.json."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Plan:
        """Inverse of :meth:`as_dict`."""
        return cls(
            spacing=tuple(float(s) for s in content["spacing"]),
            patch_size=tuple(int(s) for s in content["patch_size"]),
            batch_size=int(content["batch_size"]),
            normalization=tuple(str(n) for n in content["normalization"]),
        )


def resampled_shape(grid: Grid, spacing: Sequence[float]) -> tuple[int, ...]:
    """Shape of a canonical scan at another spacing; at least one voxel an axis."""
    old = zip(canonical_grid(grid).shape, canonical_spacing(grid), spacing, strict=True)
    return tuple(max(1, round(size * mm / target)) for size, mm, target in old)


def make_plan(
    grids: Sequence[Grid],
    channels: int,
    spacing: Sequence[float] | None = None,
    patch_size: Sequence[int] | None = None,
    batch_size: int = 2,
    normalization: str | Sequence[str] = "zscore",
    divisor: int = 8,
    max_voxels: int = 128**3,
) -> Plan:
    """Decide what is not given: the median spacing, and the median scan (cut down to ``max_voxels``) as the patch.

    Args:
        grids: Source grids of the training scans, all 2D or all 3D.
        channels: Image channels.
        spacing: Voxel size in mm; None for the median over the scans.
        patch_size: None for the median scan at that spacing, its longest axis shrunk until it fits.
        batch_size: Patches a step.
        normalization: One name for all channels or one a channel.
        divisor: A decided patch is a multiple of it along every axis.
        max_voxels: Largest decided patch.

    Raises:
        UserError: When a given value does not fit the data, naming the key.
    """
    dims = grids[0].ndim
    for key, value in (("plan.spacing", spacing), ("plan.patch_size", patch_size)):
        if value is not None and not _positive(value, dims):
            raise UserError(f"{key}={value} does not fit: the scans are {dims}D, so give {dims} positive numbers.")
    for key, number, least in (("plan.batch_size", batch_size, 1), ("plan.max_voxels", max_voxels, divisor**dims)):
        if number < least:
            raise UserError(f"{key}={number} does not fit: give at least {least}.")
    names = (normalization,) * channels if isinstance(normalization, str) else tuple(normalization)
    if len(names) != channels or not set(names) <= set(NORMALIZATIONS):
        raise UserError(
            f"plan.normalization={list(names)} does not fit: give one of {', '.join(NORMALIZATIONS)} "
            f"for all channels, or a list of {channels}."
        )
    median = np.median([canonical_spacing(grid) for grid in grids], axis=0) if spacing is None else spacing
    target = tuple(round(float(mm), 6) for mm in median)
    size = np.asarray(patch_size) if patch_size is not None else _median_patch(grids, target, divisor, max_voxels)
    return Plan(target, tuple(int(s) for s in size), batch_size, names)


def _positive(value: Any, dims: int) -> bool:
    return isinstance(value, Sequence) and len(value) == dims and all(0 < number < math.inf for number in value)


def _median_patch(grids: Sequence[Grid], spacing: Sequence[float], divisor: int, max_voxels: int) -> np.ndarray:
    """The median scan, rounded up to the divisor and its longest axis shrunk until it fits."""
    median = np.median([resampled_shape(grid, spacing) for grid in grids], axis=0)
    size = (np.ceil(median / divisor) * divisor).astype(int)
    while np.prod(size) > max_voxels:
        size[np.argmax(size)] -= divisor
    return size
