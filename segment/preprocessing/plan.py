"""Decisions a data set asks for: spacing, patch, batch and normalisation, read from headers alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from segment.data.geometry import Grid, canonical_grid, canonical_spacing
from segment.errors import UserError

NORMALIZATIONS = ("zscore", "masked_zscore", "ct", "rescale", "rgb", "percentiles", "none")


@dataclass(frozen=True)
class Intensity:
    """Intensities of one channel within the foreground of the training scans, each scan counting the same.

    Attributes:
        mean: Mean.
        sd: Standard deviation.
        low: 0.5th percentile.
        high: 99.5th percentile.
    """

    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """How scans are prepared and cut, and the network that fits them: one configuration of a plan file.

    Axes are in array order, z, y, x after orientation to RAS and then after `transpose`; y, x for flat images.

    Attributes:
        spacing: Voxel size in mm that every scan is resampled to. Two numbers where 3D scans are cut into slices
            (nnU-Net's 2d configuration): the slices keep their own distance.
        patch_size: Voxels of a training patch and of an inference window, as many numbers as `spacing`.
        batch_size: Patches a step.
        normalization: One of `NORMALIZATIONS` a channel.
        transpose: For each axis of the scan, which anatomical axis (0: z, 1: y, 2: x) it was: ``(0, 1, 2)`` leaves them
            as they are; nnU-Net puts the coarsest first. Empty: as they are, and as many as `spacing` has.
        intensities: One a channel; needed by ``ct`` alone, may be empty otherwise.
        strides: Step into each stage of the network, one number an axis of the patch.
        kernel_sizes: Kernel of each stage, one number an axis of the patch.
        features: Feature maps of each stage.
        blocks: Convolutions (or residual blocks) of each encoder stage.
        decoder_blocks: Convolutions of each decoder stage, coarsest last as in `blocks`; one fewer.
    """

    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    normalization: tuple[str, ...]
    transpose: tuple[int, ...] = ()
    intensities: tuple[Intensity, ...] = ()
    strides: tuple[tuple[int, ...], ...] = ()
    kernel_sizes: tuple[tuple[int, ...], ...] = ()
    features: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    decoder_blocks: tuple[int, ...] = ()

    @property
    def sliced(self) -> bool:
        """Whether 3D scans are cut into slices along their first axis."""
        return len(self.transpose) == 3 and len(self.patch_size) == 2

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, as written to model.json."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Plan:
        """Inverse of :meth:`as_dict`.

        Raises:
            LookupError: When one of the first four entries is missing.
            TypeError: When an entry is of another kind.
            ValueError: When a number is none.
        """

        def numbers(key: str) -> tuple[int, ...]:
            return tuple(int(number) for number in content.get(key, ()))

        def rows(key: str) -> tuple[tuple[int, ...], ...]:
            return tuple(tuple(int(number) for number in row) for row in content.get(key, ()))

        return cls(
            spacing=tuple(float(mm) for mm in content["spacing"]),
            patch_size=tuple(int(size) for size in content["patch_size"]),
            batch_size=int(content["batch_size"]),
            normalization=tuple(str(name) for name in content["normalization"]),
            transpose=numbers("transpose"),
            intensities=tuple(
                Intensity(**{key: float(row[key]) for key in ("mean", "sd", "low", "high")})
                for row in content.get("intensities", ())
            ),
            strides=rows("strides"),
            kernel_sizes=rows("kernel_sizes"),
            features=numbers("features"),
            blocks=numbers("blocks"),
            decoder_blocks=numbers("decoder_blocks"),
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
