"""Convert scores on the plan's grid to class indices on the scan's own grid, plane by plane in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segment.io.geometry import canonical_grid, canonical_view, from_canonical
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Placement, oriented, target_spacing, transposed, transposed_axes
from segment.preprocessing.resample import coarse_axis, nearest, neighbours

Decide = Callable[[Tensor], Tensor]


def most_likely(scores: Tensor) -> Tensor:
    """The class with the highest score: (class, *spatial) scores to (*spatial) uint8."""
    return scores.max(dim=0).indices.to(torch.uint8)  # three times faster than argmax


def fixed_axis(placement: Placement, plan: Plan) -> int | None:
    """The axis along which scores must be restored plane by plane, since it is not interpolated; None if any will do.

    Args:
        placement: From `prepare_image`.
        plan: The plan.
    """
    spacing = transposed(canonical_grid(oriented(placement.grid, plan)).spacing, plan)
    return 0 if len(spacing) == 2 else coarse_axis(target_spacing(spacing, plan), spacing)


class Restorer:
    """Receives the scores of a scan plane by plane and fills its class indices, holding no more than two planes.

    Scores are interpolated linearly; along a coarse axis (`coarse_axis`), the nearest one is used. A plane is
    resampled on its own, since the last bit of torch's interpolation depends on what is resampled together.

    Args:
        placement: From `prepare_image`.
        plan: The plan.
        length: Number of planes.
        axis: The axis that they are orthogonal to, in the plan's order; `fixed_axis` if that is not None.
        decide: Converts (class, *plane) scores to (*plane) uint8 class indices.
        kept: (class, *spatial) floats in the source's shape and axis order, to which the scores are added.
        share: What scores are multiplied by before they are added.
        background: Number of the class that has all of the scores outside the kept region; None: no class.
        convert: Changes the scores (class, *plane) of a plane before they are added.
    """

    def __init__(
        self,
        placement: Placement,
        plan: Plan,
        length: int,
        axis: int,
        decide: Decide = most_likely,
        kept: np.ndarray | None = None,
        share: float = 1,
        background: int | None = None,
        convert: Callable[[Tensor], Tensor] = lambda scores: scores,
    ) -> None:
        fixed = fixed_axis(placement, plan)
        if fixed not in (None, axis):
            raise ValueError(f"axis={axis}: planes of this scan must be orthogonal to axis {fixed}")
        self.placement = placement
        self.plan = plan
        self.decide = decide
        self.convert = convert
        self.full = np.zeros(transposed(canonical_grid(oriented(placement.grid, plan)).shape, plan), np.uint8)
        self.out = _planes(self.full[placement.slices], axis, self.full.ndim == 2)
        self.share = np.float32(share)
        self.scores: np.ndarray | None = None
        if kept is not None:
            view = transposed_axes(canonical_view(kept, oriented(placement.grid, plan)), plan)
            if background is not None:
                outside = np.ones(view.shape[1:], bool)
                outside[placement.slices] = False
                view[background][outside] += self.share
            self.scores = _planes(view[(slice(None), *placement.slices)], axis + 1, self.full.ndim == 2)
        new = len(self.out)
        if fixed is not None or length == new:
            self.before = self.after = nearest(length, new)
            self.weight = np.zeros(new)
        else:
            self.before, self.after, self.weight = neighbours(length, new)
        self.filled = 0
        self.previous = torch.empty(0)

    def add(self, index: int, plane: Tensor) -> None:
        """Add the scores (class, *plane) of the next plane.

        Args:
            index: Number of the plane; they come in order.
            plane: The scores; not changed, but kept until the next call.
        """
        while self.filled < len(self.out) and self.after[self.filled] <= index:
            place = self.filled
            first, second = (self.previous if side < index else plane for side in self._sides(place))
            scores = first.float()
            if second is not first:
                scores = scores.lerp(second.float(), float(np.float32(self.weight[place])))
            if scores.shape[1:] != self.out.shape[1:]:
                scores = functional.interpolate(scores[None], self.out.shape[1:], mode="bilinear")[0]
            self.out[place] = self.decide(scores).cpu().numpy()
            if self.scores is not None:
                self.scores[place] += self.convert(scores).cpu().numpy() * self.share
            self.filled += 1
        self.previous = plane

    def _sides(self, place: int) -> tuple[int, int]:
        return int(self.before[place]), int(self.after[place])

    def result(self) -> np.ndarray:
        """(*spatial) uint8 class indices in the source's shape and axis order."""
        full = self.full
        if self.plan.transpose:
            full = full.transpose(np.argsort(self.plan.transpose))
        return np.ascontiguousarray(from_canonical(full, oriented(self.placement.grid, self.plan)))


def restore(
    scores: Tensor,
    placement: Placement,
    plan: Plan,
    decide: Decide = most_likely,
    axis: int = 0,
    kept: np.ndarray | None = None,
    background: int | None = None,
    convert: Callable[[Tensor], Tensor] = lambda scores: scores,
) -> np.ndarray:
    """Convert the scores of a whole scan, see `Restorer`.

    Args:
        scores: (class, *spatial) on the plan's grid: logits or probabilities of classes, or of regions.
        placement: From `prepare_image`.
        plan: The plan.
        decide: Converts (class, *plane) scores to (*plane) uint8 class indices.
        axis: The axis that is interpolated first, unless `fixed_axis` decides.
        kept: As for `Restorer`.
        background: As for `Restorer`.
        convert: As for `Restorer`.

    Returns:
        (*spatial) uint8 class indices in the source's shape and axis order.
    """
    volume = scores[:, None] if scores.ndim == 3 else scores
    fixed = fixed_axis(placement, plan)
    axis = axis if fixed is None else fixed
    restorer = Restorer(placement, plan, volume.shape[axis + 1], axis, decide, kept, 1, background, convert)
    for index, plane in enumerate(volume.unbind(axis + 1)):
        restorer.add(index, plane)
    return restorer.result()


def _planes(array: np.ndarray, axis: int, flat: bool) -> np.ndarray:
    """A view whose first axis is an axis of a 3D scan; a flat image is its one plane."""
    return array[None] if flat else np.moveaxis(array, axis, 0)
