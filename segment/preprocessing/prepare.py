"""Preprocessing of a scan: orientation, axis order, cropping, normalisation, resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from segment.arrays import nonzero_box
from segment.errors import UserError
from segment.io.geometry import Grid, canonical_grid, to_canonical
from segment.io.images import Image
from segment.memory import require_memory
from segment.preprocessing.normalize import normalize
from segment.preprocessing.plan import STORED, Plan
from segment.preprocessing.resample import coarse_axis, resample_image, resample_labels

T = TypeVar("T")
Box = tuple[tuple[int, int], ...]

MAX_GROWTH = 1000  # times as many voxels as in the file, for scans above `SMALL`: the spacing is then in another unit
SMALL = 1 << 26


@dataclass(frozen=True, eq=False)
class Placement:
    """Origin of a prepared scan.

    Attributes:
        grid: The scan's own grid.
        box: (start, stop) along each axis of the kept region, in voxels of the scan after orientation and the plan's
            transpose.
    """

    grid: Grid
    box: tuple[tuple[int, int], ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index."""
        return tuple(slice(start, stop) for start, stop in self.box)


def oriented(grid: Grid, plan: Plan) -> Grid:
    """The grid by which a scan is turned: its own, or one without direction if the plan leaves scans as stored."""
    if plan.orientation != STORED:
        return grid
    return Grid(grid.shape, np.diag([*grid.spacing[::-1], *[1.0] * (4 - grid.ndim)]), grid.assumed)


def transposed(values: Sequence[T], plan: Plan) -> tuple[T, ...]:
    """Reorder values of the anatomical axes z, y, x to the plan's axis order."""
    return tuple(values[axis] for axis in plan.transpose) if plan.transpose else tuple(values)


def target_spacing(spacing: Sequence[float], plan: Plan) -> tuple[float, ...]:
    """Voxel size in mm that a scan is resampled to, in the plan's axis order; slices keep their spacing.

    Args:
        spacing: Voxel size of the scan in mm, in the plan's axis order.
        plan: The plan.
    """
    return (spacing[0], *plan.spacing) if plan.sliced else plan.spacing


def prepared_shape(shape: Sequence[int], spacing: Sequence[float], plan: Plan) -> tuple[int, ...]:
    """Shape of a scan after resampling, at least one voxel per axis.

    Args:
        shape: Voxels of the kept region, in the plan's axis order.
        spacing: Its voxel size in mm, in the same order.
        plan: The plan.
    """
    old = zip(shape, spacing, target_spacing(spacing, plan), strict=True)
    return tuple(max(1, round(mm / target * size)) for size, mm, target in old)


def preparation_bytes(grid: Grid, channels: int, plan: Plan) -> int:
    """Memory in bytes for preparing a scan: as read, reoriented, cropped, and resampled.

    Args:
        grid: The scan's grid.
        channels: Its number of channels.
        plan: The plan.
    """
    canonical = canonical_grid(oriented(grid, plan))
    shape, spacing = transposed(canonical.shape, plan), transposed(canonical.spacing, plan)
    return 4 * channels * (3 * math.prod(shape) + math.prod(prepared_shape(shape, spacing, plan)))


def require_preparable(grid: Grid, channels: int, plan: Plan, name: str) -> None:
    """Refuse a scan that resampling makes absurdly large, as a wrong spacing does, or larger than the memory.

    Args:
        grid: The scan's grid.
        channels: Its number of channels.
        plan: The plan.
        name: Its name in the message.

    Raises:
        UserError: If it is.
    """
    canonical = canonical_grid(oriented(grid, plan))
    new = prepared_shape(transposed(canonical.shape, plan), transposed(canonical.spacing, plan), plan)
    old, spacing, becomes = (" x ".join(f"{number:g}" for number in row) for row in (grid.shape, grid.spacing, new))
    if math.prod(new) > max(SMALL, MAX_GROWTH * math.prod(grid.shape)):
        raise UserError(
            f"{name}: its {old} voxels of {spacing} mm would become {becomes} voxels of the plan's spacing. Fix the "
            "spacing in its header, or choose another model or plan.spacing."
        )
    require_memory(
        preparation_bytes(grid, channels, plan),
        f"{name}: resampled from voxels of {spacing} mm to the plan's, its {becomes} voxels",
        "Fix the spacing in its header if it is wrong, crop it, or choose another model or plan.spacing.",
    )


def prepare_image(image: Image, plan: Plan, region: Box | None = None) -> tuple[np.ndarray, Placement]:
    """Orient and reorder the axes as in the plan, crop to nonzero voxels, normalise, resample.

    Args:
        image: (channel, *spatial) float32 on the source grid; not changed.
        plan: The plan.
        region: From `region_of`; what lies outside is cropped after it was normalised. None: nothing.

    Returns:
        (channel, *spatial) float32, contiguous, on the plan's grid; and its placement.

    Raises:
        ValueError: If the intensities do not suit the normalisation.
    """
    array = transposed_axes(to_canonical(image.array, oriented(image.grid, plan)), plan)
    placement = Placement(image.grid, nonzero_box(array))
    kept = np.ascontiguousarray(array[(slice(None), *placement.slices)], dtype=np.float32)
    del array  # frees the memory of a whole scan
    if np.may_share_memory(kept, image.array):
        kept = kept.copy()
    normalize(kept, plan)
    if region is not None:
        kept, placement = _cropped(kept, placement, region)
    return resample_image(kept, *_resampling(placement, plan)), placement


def region_of(mask: np.ndarray, grid: Grid, plan: Plan, margin: float) -> Box | None:
    """The box around the foreground of a mask, at least as large as the plan's patch where the scan is.

    Args:
        mask: (*spatial) class indices or values on the source grid; 0 is background.
        grid: The source grid.
        plan: The plan of the model that predicts the region.
        margin: mm around the foreground, along each axis.

    Returns:
        (start, stop) along each axis in voxels of the scan, after orientation and the plan's transpose; None for an
        empty mask.
    """
    array = transposed_axes(to_canonical(mask[None], oriented(grid, plan)), plan)
    if not array.any():
        return None
    spacing = transposed(canonical_grid(oriented(grid, plan)).spacing, plan)
    target = target_spacing(spacing, plan)
    patch = (1, *plan.patch_size) if plan.sliced else plan.patch_size
    found = []
    for axis, (start, stop) in enumerate(nonzero_box(array)):
        size, reach = array.shape[axis + 1], math.ceil(margin / spacing[axis])
        least = math.ceil(patch[axis] * target[axis] / spacing[axis])
        lacking = max(0, least - (stop - start + 2 * reach))
        start, stop = start - reach - lacking // 2, stop + reach + (lacking + 1) // 2
        # What reaches beyond one end is added at the other.
        start, stop = start - max(0, stop - size), stop + max(0, -start)
        found.append((max(0, start), min(size, stop)))
    return tuple(found)


def _cropped(image: np.ndarray, placement: Placement, region: Box) -> tuple[np.ndarray, Placement]:
    """The part of an image (channel, *spatial) in a region, unless they do not overlap."""
    box = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(placement.box, region, strict=True))
    if any(start >= stop for start, stop in box):
        return image, placement
    part = tuple(slice(start - own, stop - own) for (start, stop), (own, _) in zip(box, placement.box, strict=True))
    return np.ascontiguousarray(image[(slice(None), *part)]), Placement(placement.grid, box)


def prepare_reference(classes: np.ndarray, placement: Placement, plan: Plan) -> np.ndarray:
    """Resample class indices to the grid of the prepared image.

    Args:
        classes: (*spatial) uint8 on the source grid: class indices, or 255 for unannotated voxels.
        placement: From `prepare_image`.
        plan: The plan.

    Returns:
        (*spatial) uint8, contiguous, on the plan's grid.
    """
    array = transposed_axes(to_canonical(classes[None], oriented(placement.grid, plan)), plan)[0]
    kept = np.ascontiguousarray(array[placement.slices], dtype=np.uint8)
    return resample_labels(kept, *_resampling(placement, plan))


def transposed_axes(array: np.ndarray, plan: Plan) -> np.ndarray:
    """An array (channel, *spatial) with the spatial axes in the plan's order; a view."""
    return array.transpose(0, *[axis + 1 for axis in plan.transpose]) if plan.transpose else array


def _resampling(placement: Placement, plan: Plan) -> tuple[tuple[int, ...], int | None]:
    """New shape, and the axis that is not interpolated."""
    spacing = transposed(canonical_grid(oriented(placement.grid, plan)).spacing, plan)
    shape = prepared_shape([stop - start for start, stop in placement.box], spacing, plan)
    return shape, coarse_axis(spacing, target_spacing(spacing, plan))
