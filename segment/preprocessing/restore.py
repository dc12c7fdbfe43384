"""Convert scores on the plan's grid to class indices on the scan's own grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segment.io.geometry import canonical_grid, from_canonical
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Placement, target_spacing, transposed
from segment.preprocessing.resample import coarse_axis, nearest, neighbours

SLAB = 1 << 24  # number of scores that are resampled at once

Decide = Callable[[Tensor], Tensor]


def most_likely(scores: Tensor) -> Tensor:
    """The class with the highest score: (class, *spatial) scores to (*spatial) uint8."""
    return scores.max(dim=0).indices.to(torch.uint8)  # three times faster than argmax


def restore(
    scores: Tensor,
    placement: Placement,
    plan: Plan,
    decide: Decide = most_likely,
    dtype: type[np.generic] = np.uint8,
    outside: float = 0,
) -> np.ndarray:
    """Convert scores on the plan's grid to class indices on the scan's own grid, slab by slab in bounded memory.

    Scores are interpolated linearly; along a coarse axis (`coarse_axis`), the nearest one is used.

    Args:
        scores: (class, *spatial) on the plan's grid: logits or probabilities of classes, or of regions.
        placement: From `prepare_image`.
        plan: The plan.
        decide: Converts (class, *part) scores to (*part) uint8 class indices; called slab by slab.
        dtype: Type of the result, if `decide` returns other values.
        outside: Value outside the kept region.

    Returns:
        (*spatial) of `dtype` in the source's shape and axis order.
    """
    source = canonical_grid(placement.grid)
    spacing = transposed(source.spacing, plan)
    full = np.full(transposed(source.shape, plan), outside, dtype)
    kept = full[placement.slices]
    if kept.ndim == 2:
        _fill(kept[None], scores[:, None], 0, decide)
    else:
        _fill(kept, scores, coarse_axis(target_spacing(spacing, plan), spacing), decide)
    if plan.transpose:
        full = full.transpose(np.argsort(plan.transpose))
    return np.ascontiguousarray(from_canonical(full, placement.grid))


def _fill(out: np.ndarray, scores: Tensor, coarse: int | None, decide: Decide) -> None:
    """Fill (z, y, x) with `decide` applied to (class, z, y, x) scores resampled to its shape."""
    if coarse is not None:  # moved to the front; the planes orthogonal to it are interpolated
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
