"""Class probabilities of a whole scan from overlapping windows, plane by plane, with or without mirrored passes.

Windows are sorted along one axis. A plane that no later window touches is normalised, handed on and released, so that
memory does not grow with the length of the scan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, combinations

import torch
from torch import Tensor
from torch.nn import functional

from segment.augment.spatial import spatial_axes
from segment.inference.blending import Blend
from segment.inference.forward import Dropping, Forward, Network
from segment.inference.limits import (
    ARGMAX,
    AUTO,
    AVERAGES,
    LOGITS,
    MONAI,
    PROBABILITIES,
    THRESHOLDS,
    TILINGS,
    check_windows,
)
from segment.inference.temperature import tempered
from segment.inference.tiling import (
    Pass,
    Place,
    Schedule,
    Step,
    best_axis,
    gaussian,
    schedule,
    starts,
)
from segment.inference.uncertainty import entropy

UNMEASURED = (4, "channels_last")  # in place of auto during a training, whose weights have this layout

Score = Callable[[Tensor], Tensor]


class SlidingWindows:
    """Predicts a scan window by window; neighbouring windows are blended with Gaussian weights.

    The window logits are averaged with weights of standard deviation ``sigma * window`` and turned into
    probabilities once; mirrored passes are averaged as `average` says.

    Args:
        overlap: Fraction of a window that overlaps the next one, 0 to 0.95.
        batch_size: Windows per forward pass, at least 1; ``auto``: the fastest where the model is scored.
        mirror: ``"all"``, or the spatial axes (array order) of which every combination is flipped and averaged;
            empty for none. Three axes cost eight passes.
        sigma: Standard deviation of the Gaussian weights in window lengths, above 0 and at most 10.
        average: What mirrored passes are averaged as: ``probabilities``, or ``logits`` as in nnU-Net (Isensee et al.
            2021).
        layout: Memory layout of windows and weights, ``channels_last`` or ``contiguous``; ``auto``: the fastest where
            the model is scored.
        decision: How probabilities become labels: ``argmax``, the most probable one; ``thresholds``, a threshold for
            each label; or ``dice``, the masks of the highest expected Dice (RankSEG, Dai and Li 2023), which holds the
            probabilities of a scan on disk.
        temperature: Of the probabilities, see `segment.inference.temperature.tempered`; 1 leaves them as they are.
        dropout: Passes with the network's dropout active that replace each pass without it, see
            `segment.inference.dropout`; 0 for none. What is dropped depends on the scan, the pass and the window alone.
        thresholds: By structure, in [0, 1]: the least probability of its voxels, for the decision of this name.
        tiling: Where windows lie and how they are weighted: ``monai``, or ``nnunet`` for windows at equal distances and
            weights in half precision, as nnU-Net 2 computes them.
        restore: What is interpolated onto the grid of the scan: ``probabilities``, or ``logits`` as in nnU-Net, which
            needs the same of `average`.

    Raises:
        ValueError: When a number is out of range.
        TypeError: When a value is not a number.
    """

    def __init__(
        self,
        overlap: float = 0.5,
        batch_size: int | str = 4,
        mirror: str | Sequence[int] = (),
        sigma: float = 0.125,
        average: str = "probabilities",
        layout: str = "channels_last",
        decision: str = ARGMAX,
        temperature: float = 1,
        thresholds: Mapping[str, float] | None = None,
        dropout: int = 0,
        tiling: str = MONAI,
        restore: str = PROBABILITIES,
    ) -> None:
        check_windows(overlap, batch_size, sigma, layout, decision, temperature, thresholds, dropout)
        if average not in AVERAGES:
            raise ValueError(f"average={average} must be one of {', '.join(AVERAGES)}")
        if tiling not in TILINGS:
            raise ValueError(f"tiling={tiling} must be one of {', '.join(TILINGS)}")
        if restore not in (PROBABILITIES, average):
            raise ValueError(f"restore={restore} must be {PROBABILITIES}, or {LOGITS} with average={LOGITS}")
        self.overlap = overlap
        self.batch_size = batch_size if batch_size == AUTO else int(batch_size)
        self.mirror = mirror
        self.sigma = sigma
        self.average = average
        self.layout = layout
        self.decision = decision
        self.temperature = temperature
        self.thresholds = None if thresholds is None else dict(thresholds)
        self.dropout = dropout
        self.tiling = tiling
        self.restore = restore

    def describe(self) -> dict[str, object]:
        """Settings to report with every score: overlap and test-time augmentation."""
        mirror = self.mirror if isinstance(self.mirror, str) else list(self.mirror)
        views = f"mirror {mirror}{' of logits' * (self.average == 'logits')}" if self.mirror else "none"
        decision = self.decision
        if decision == THRESHOLDS:
            decision += f" {', '.join(f'{name} {value:.3f}' for name, value in (self.thresholds or {}).items())}"
        changed = {} if self.decision == ARGMAX else {"decision": decision}
        changed |= {} if self.temperature == 1 else {"temperature": f"{self.temperature:.3f}"}
        changed |= {"dropout": f"{self.dropout} passes"} if self.dropout else {}
        changed |= {} if self.tiling == MONAI else {"tiling": self.tiling}
        changed |= {} if self.restore == PROBABILITIES else {"restored": self.restore}
        return {"overlap": self.overlap, "test_time_augmentation": views, **changed}

    def flips(self, dims: int) -> list[tuple[int, ...]]:
        """Spatial axes flipped in each pass; the first pass flips none."""
        axes = spatial_axes(self.mirror, dims, "inference.mirror")
        return [*chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))]

    @torch.inference_mode()
    def __call__(
        self, network: Network | Sequence[Network], image: Tensor, window: Sequence[int], regions: bool = False
    ) -> Tensor:
        """Compute the probabilities of every class or region.

        Args:
            network: The network in evaluation mode, or several whose mean is computed.
            image: (channel, *spatial) on the network's device.
            window: Voxels of a window; a smaller scan is padded with 0. With two numbers, a 3D scan is predicted slice
                by slice along its first axis.
            regions: Whether outputs are independent regions (sigmoid) instead of classes (softmax).

        Returns:
            (output, *spatial) float32 in [0, 1], summing to 1 over classes.
        """
        axis = self.axis(image.shape[1:], window)
        scores = assembled(self.planes(network, image, window, regions, axis, whole=True), image.shape[1:], axis)
        return self.probabilities(scores, regions)

    def count(self, size: Sequence[int], window: Sequence[int]) -> int:
        """Number of windows of a scan, those of mirrored passes included."""
        flat = len(size) - len(window)  # slices are predicted one by one
        along = [
            len(starts(max(whole, extent), extent, self.overlap, self.tiling))
            for whole, extent in zip(size[flat:], window, strict=True)
        ]
        return math.prod((*size[:flat], *along, len(self.flips(len(window))), self.dropout or 1))

    def axis(self, size: Sequence[int], window: Sequence[int]) -> int:
        """The axis along which `planes` holds the least of a scan; 0 for slices and 2D images."""
        return best_axis(size, window) if len(window) == 3 else 0

    @torch.inference_mode()
    def planes(
        self,
        network: Network | Sequence[Network],
        image: Tensor,
        window: Sequence[int],
        regions: bool = False,
        axis: int = 0,
        whole: bool = False,
        entropies: bool = False,
    ) -> Iterator[tuple[int, Tensor]]:
        """Compute the same probabilities plane by plane, without holding those of the whole scan.

        With ``restore=logits`` these are logits, see `probabilities`.

        A plane is converted to probabilities on its own: torch's vectorised exponential and the one that it computes
        the rest of an array with differ in the last bit, so the result would depend on what is converted together.

        Args:
            network: As for a call.
            image: As for a call.
            window: As for a call.
            regions: As for a call.
            axis: The axis that the planes are orthogonal to; 2D images have a single plane, along axis 0.
            whole: Whether the caller keeps all planes, which allows mirrored passes to run one after another.
            entropies: Whether the mean entropy of the passes follows the probabilities as one more output.

        Yields:
            Index of the plane along the axis, in order; and its probabilities (output, *plane) float32.
        """
        networks = [network] if callable(network) else list(network)
        flat = len(window) == 2
        extent: Place = (1, *window) if flat else tuple(window)  # type: ignore[assignment]
        padded, inside = _padded(_volume(image), extent)
        passes = [
            Pass(number, tuple(one + flat for one in flipped))
            for number in range(len(networks))
            for flipped in self.flips(len(window))
            for _ in range(self.dropout or 1)
        ]
        size: Place = tuple(padded.shape[1:])  # type: ignore[assignment]
        order = schedule(size, extent, self.overlap, axis, passes, self.used_batch_size, whole, self.tiling)
        device = image.device
        weights = gaussian(window, self.sigma, self.tiling).view(extent).to(device, non_blocking=device.type != "mps")
        blends = [Blend(size, axis, held, weights) for held in order.held]
        forward = (Dropping if self.dropout else Forward)(
            networks, padded, extent, flat, self.used_layout, passes, order
        )
        across = tuple(kept for other, kept in enumerate(inside) if other != axis)
        early, late = self._scores(regions, entropies)
        for index, total in (_in_turn if order.in_turn else _side_by_side)(order, blends, forward, early):
            if inside[axis].start <= index < inside[axis].stop:
                mean = total.div_(len(passes)) if len(passes) > 1 else total
                yield index - inside[axis].start, late(mean)[(slice(None), *across)]

    @property
    def used_batch_size(self) -> int:
        """Windows per forward pass."""
        return UNMEASURED[0] if self.batch_size == AUTO else int(self.batch_size)

    @property
    def used_layout(self) -> str:
        """The layout of windows and weights."""
        return UNMEASURED[1] if self.layout == AUTO else self.layout

    def _scores(self, regions: bool, entropies: bool) -> tuple[Score, Score]:
        """Conversions of logits (output, *plane) before the passes are averaged, and after it."""
        convert: Score = torch.sigmoid if regions else lambda logits: torch.softmax(logits, dim=0)
        early, late = convert, _unchanged
        if self.average == LOGITS:
            early, late = late, late if self.restore == LOGITS else early
        if not entropies:
            return early, late
        return (
            lambda logits: torch.cat([early(logits), entropy(self._tempered(convert(logits), regions), regions)[None]]),
            lambda means: torch.cat([late(means[:-1]), means[-1:]]),
        )

    def probabilities(self, scores: Tensor, regions: bool) -> Tensor:
        """Probabilities of what `planes` yields, (output, *spatial), which are logits with ``restore=logits``."""
        if self.restore != LOGITS:
            return scores
        return torch.sigmoid(scores) if regions else torch.softmax(scores, dim=0)

    def _tempered(self, probabilities: Tensor, regions: bool) -> Tensor:
        return tempered(probabilities, self.temperature, regions)


Computed = Callable[[Step], Iterator[tuple[int, Place, Tensor]]]
Planes = Iterator[tuple[int, Tensor]]


def _unchanged(scores: Tensor) -> Tensor:
    return scores


def _blend(blends: list[Blend], computed: Iterator[tuple[int, Place, Tensor]]) -> None:
    """Add the logits of a step to those of their passes, and hold none of them while the next step is computed."""
    for index, place, logits in computed:
        blends[index].add(logits, place)


def _side_by_side(
    order: Schedule, blends: list[Blend], forward: Computed, score: Score
) -> Iterator[tuple[int, Tensor]]:
    """Add up the scores of all passes, in their order, while they proceed together.

    Yields:
        Index of every plane, in order, and its sum (output, *plane), which may be changed.
    """
    done = 0
    for step in order.steps:
        _blend(blends, forward(step))
        for plane in range(done, step.complete[0]):
            total = score(blends[0].take(plane))
            for blend in blends[1:]:
                total += score(blend.take(plane))
            yield plane, total
        done = step.complete[0]


def _in_turn(order: Schedule, blends: list[Blend], forward: Computed, score: Score) -> Planes:
    """Add up the same scores while one pass follows the other; the sums of several passes are held until the last.

    Yields:
        As `_side_by_side`.
    """
    done, sums = [0] * len(blends), dict[int, Tensor]()
    for step in order.steps:
        _blend(blends, forward(step))
        for index, complete in enumerate(step.complete):
            for plane in range(done[index], complete):
                scores = score(blends[index].take(plane))
                sums[plane] = sums.pop(plane).add_(scores) if index > 0 else scores
                if index == len(blends) - 1:
                    yield plane, sums.pop(plane)
            done[index] = complete
            if complete == order.steps[-1].complete[index]:
                blends[index].release()


@torch.inference_mode()
def assembled(planes: Iterator[tuple[int, Tensor]], shape: Sequence[int], axis: int) -> Tensor:
    """The whole (output, *shape) array of the planes that `SlidingWindows.planes` yields along an axis."""
    volume = (1, *shape) if len(shape) == 2 else tuple(shape)
    result: Tensor | None = None
    for index, plane in planes:
        if result is None:
            result = plane.new_empty((len(plane), *volume))
        result.select(axis + 1, index).copy_(plane)
    assert result is not None
    return result.view(len(result), *shape)


def _volume(image: Tensor) -> Tensor:
    """A 2D image (channel, y, x) as a scan of one slice."""
    return image[:, None] if image.ndim == 3 else image


def _padded(image: Tensor, window: Place) -> tuple[Tensor, tuple[slice, ...]]:
    """Pad a scan (channel, z, y, x) that is smaller than a window with 0 on both sides.

    Returns:
        The padded scan, and where the scan lies in it.
    """
    missing = [max(0, extent - size) for extent, size in zip(window, image.shape[1:], strict=True)]
    inside = tuple(slice(gap // 2, gap // 2 + size) for gap, size in zip(missing, image.shape[1:], strict=True))
    if not any(missing):
        return image, inside
    padding = [part for gap in reversed(missing) for part in (gap // 2, gap - gap // 2)]
    return functional.pad(image, padding), inside
