"""From the network's grid back to a scan's own: scores to class indices."""

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

SLAB = 1 << 24  # scores that are resampled at once

Decide = Callable[[Tensor], Tensor]


def most_likely(scores: Tensor) -> Tensor:
    """(*spatial) uint8: the class with the greatest of (class, *spatial) scores."""
    return scores.max(dim=0).indices.to(torch.uint8)  # argmax takes three times as long


def restore(
    scores: Tensor,
    placement: Placement,
    plan: Plan,
    decide: Decide = most_likely,
    dtype: type[np.generic] = np.uint8,
    outside: float = 0,
) -> np.ndarray:
    """Bring scores from the plan's grid to class indices on the scan's own grid, slab by slab in bounded memory.

    Scores are interpolated linearly; along a coarse axis (`coarse_axis`) the nearest is taken.

    Args:
        scores: (class, *spatial) on the plan's grid: logits or probabilities of classes, or of regions.
        placement: From `prepare_image`.
        plan: The decisions.
        decide: Turns (class, *part) scores into (*part) uint8 class indices; called slab by slab.
        dtype: Of the result, where `decide` gives other values.
        outside: Value outside the part that was kept.

    Returns:
        (*spatial) of `dtype` in the source's shape and axis order.
    """
    source = canonical_grid(placement.grid)
    spacing = transposed(source.spacing, plan)
    whole = np.full(transposed(source.shape, plan), outside, dtype)
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
