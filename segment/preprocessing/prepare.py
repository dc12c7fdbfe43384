"""From a scan's own grid to the network's and back: orientation, axis order, cropping, intensities, voxel size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segment.data.geometry import Grid, canonical_grid, from_canonical, nonzero_box, to_canonical
from segment.data.images import Image
from segment.preprocessing.normalize import normalize
from segment.preprocessing.plan import Plan
from segment.preprocessing.resample import coarse_axis, nearest, neighbours, resample_image, resample_labels

SLAB = 1 << 24  # scores that are resampled at once

T = TypeVar("T")
Decide = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a prepared scan comes from.

    Attributes:
        grid: The scan's own grid.
        box: (start, stop) along each axis of the part that was kept, in voxels of the scan after orientation and the
            plan's transpose.
    """

    grid: Grid
    box: tuple[tuple[int, int], ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index."""
        return tuple(slice(start, stop) for start, stop in self.box)


def transposed(values: Sequence[T], plan: Plan) -> tuple[T, ...]:
    """Numbers of the anatomical axes z, y, x, in the order of the plan's axes."""
    return tuple(values[axis] for axis in plan.transpose) if plan.transpose else tuple(values)


def target_spacing(spacing: Sequence[float], plan: Plan) -> tuple[float, ...]:
    """Voxel size in mm that a scan is resampled to, in the plan's axis order; slices keep their own distance.

    Args:
        spacing: The scan's own, in the plan's axis order.
        plan: The decisions.
    """
    return (spacing[0], *plan.spacing) if plan.sliced else plan.spacing


def prepared_shape(shape: Sequence[int], spacing: Sequence[float], plan: Plan) -> tuple[int, ...]:
    """Voxels of a scan once it is resampled, at least one an axis.

    Args:
        shape: Voxels of the kept part, in the plan's axis order.
        spacing: Its voxel size in mm, in the same order.
        plan: The decisions.
    """
    old = zip(shape, spacing, target_spacing(spacing, plan), strict=True)
    return tuple(max(1, round(mm / target * size)) for size, mm, target in old)


def prepare_image(image: Image, plan: Plan) -> tuple[np.ndarray, Placement]:
    """Orient to RAS axes, put the axes in the plan's order, crop to what is not 0, normalise, resample.

    Args:
        image: (channel, *spatial) float32 on the source grid; not changed.
        plan: The decisions.

    Returns:
        (channel, *spatial) float32, contiguous, on the plan's grid; and where it comes from.

    Raises:
        ValueError: When the intensities do not fit the normalisation.
    """
    array = _turned(to_canonical(image.array, image.grid), plan)
    placement = Placement(image.grid, nonzero_box(array))
    kept = np.ascontiguousarray(array[(slice(None), *placement.slices)], dtype=np.float32)
    del array  # a whole scan each: what is no longer needed goes
    if np.may_share_memory(kept, image.array):
        kept = kept.copy()
    normalize(kept, plan)
    return resample_image(kept, *_resampling(placement, plan)), placement


def prepare_reference(classes: np.ndarray, placement: Placement, plan: Plan) -> np.ndarray:
    """Bring class indices onto the grid of the prepared image.

    Args:
        classes: (*spatial) uint8 on the source grid: class indices, or 255 for voxels that nobody annotated.
        placement: From `prepare_image`.
        plan: The decisions.

    Returns:
        (*spatial) uint8, contiguous, on the plan's grid.
    """
    array = _turned(to_canonical(classes[None], placement.grid), plan)[0]
    kept = np.ascontiguousarray(array[placement.slices], dtype=np.uint8)
    return resample_labels(kept, *_resampling(placement, plan))


def _turned(array: np.ndarray, plan: Plan) -> np.ndarray:
    """Spatial axes in the plan's order; a view."""
    return array.transpose(0, *[axis + 1 for axis in plan.transpose]) if plan.transpose else array


def _resampling(placement: Placement, plan: Plan) -> tuple[tuple[int, ...], int | None]:
    """Shape to come, and the axis that is not interpolated."""
    spacing = transposed(canonical_grid(placement.grid).spacing, plan)
    shape = prepared_shape([stop - start for start, stop in placement.box], spacing, plan)
    return shape, coarse_axis(spacing, target_spacing(spacing, plan))


def most_likely(scores: Tensor) -> Tensor:
    """(*spatial) uint8: the class with the greatest of (class, *spatial) scores."""
    return scores.max(dim=0).indices.to(torch.uint8)  # argmax takes three times as long


def restore(scores: Tensor, placement: Placement, plan: Plan, decide: Decide = most_likely) -> np.ndarray:
    """Bring scores from the plan's grid to class indices on the scan's own grid, slab by slab in bounded memory.

    Scores are interpolated linearly; along a coarse axis (`coarse_axis`) the nearest is taken.

    Args:
        scores: (class, *spatial) on the plan's grid: logits or probabilities of classes, or of regions.
        placement: From `prepare_image`.
        plan: The decisions.
        decide: Turns (class, *part) scores into (*part) uint8 class indices; called slab by slab.

    Returns:
        (*spatial) uint8 in the source's shape and axis order, 0 outside the part that was kept.
    """
    source = canonical_grid(placement.grid)
    spacing = transposed(source.spacing, plan)
    whole = np.zeros(transposed(source.shape, plan), np.uint8)
    kept = whole[placement.slices]
    if kept.ndim == 2:
        _fill(kept[None], scores[:, None], 0, decide)
    else:
        _fill(kept, scores, coarse_axis(target_spacing(spacing, plan), spacing), decide)
    if plan.transpose:
        whole = whole.transpose(np.argsort(plan.transpose))
    return np.ascontiguousarray(from_canonical(whole, placement.grid))


def _fill(out: np.ndarray, scores: Tensor, coarse: int | None, decide: Decide) -> None:
    """Fill (z, y, x) with the decisions on (class, z, y, x) scores of another shape."""
    if coarse is not None:  # it comes first, and the planes across it are interpolated
        out, scores = np.moveaxis(out, coarse, 0), scores.movedim(coarse + 1, 1)
    old, new = scores.shape[1], len(out)
    places = (nearest(old, new),) if coarse is not None or old == new else neighbours(old, new)
    sides = [torch.from_numpy(numbers).to(scores.device) for numbers in places]
    step = max(1, SLAB // (len(scores) * max(out[0].size, scores[0, 0].numel())))
    for start in range(0, new, step):
        part = slice(start, start + step)
        slab = scores.index_select(1, sides[0][part]).float()
        if len(sides) == 3:
            share = sides[2][part].float().view(-1, 1, 1)
            slab = slab.lerp_(scores.index_select(1, sides[1][part]).float(), share)
        if slab.shape[2:] != out.shape[1:]:
            slab = functional.interpolate(slab, out.shape[1:], mode="bilinear", align_corners=False)
        out[part] = decide(slab).cpu().numpy()
