"""Where the windows of a scan lie, the order in which they are predicted, and how much of the scan that order holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from segment.inference.limits import MONAI, NNUNET

Place = tuple[int, int, int]
"""First voxel of a window along each axis."""

SMALLEST_WEIGHT = 1e-3
NNUNET_LARGEST = 10  # of nnU-Net's weights, so that half precision holds the smaller ones
FAVOURED = 0.8  # another axis than the first is used if it holds less than this share


@dataclass(frozen=True)
class Pass:
    """One run over all windows of a scan.

    Attributes:
        network: Index of the network.
        flipped: Axes, 0 to 2, that its windows are mirrored along.
    """

    network: int
    flipped: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """Windows that the network computes together.

    Attributes:
        windows: (index of the pass, place) of each.
        complete: For each pass, the number of planes that no later window touches.
    """

    windows: tuple[tuple[int, Place], ...]
    complete: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """The steps of a scan.

    Attributes:
        steps: The steps, in order.
        held: For each pass, the most planes that are incomplete, or not yet used, at the same time.
        in_turn: Whether one pass ends before the next begins, so that the sum over passes is held for the whole scan;
            otherwise all passes proceed together.
    """

    steps: tuple[Step, ...]
    held: tuple[int, ...]
    in_turn: bool


def starts(size: int, window: int, overlap: float, tiling: str = MONAI) -> list[int]:
    """First voxels of the windows along an axis.

    Args:
        size: Voxels of the scan, at least those of a window.
        window: Voxels of a window.
        overlap: Fraction of a window that overlaps the next.
        tiling: ``monai``: at a fixed distance, but the last window ends with the scan; ``nnunet``: as few as have this
            overlap, at equal distances.
    """
    if tiling == NNUNET:
        count = math.ceil((size - window) / (window * (1 - overlap))) + 1
        return [round((size - window) / max(1, count - 1) * number) for number in range(count)]
    step = max(1, int(window * (1 - overlap)))
    return [*range(0, size - window, step), size - window]


def gaussian(window: Sequence[int], sigma: float, tiling: str = MONAI) -> Tensor:
    """Weights of a window's voxels.

    Args:
        window: Voxels along each axis.
        sigma: Standard deviation in window lengths.
        tiling: ``monai``: at least 0.001 of the largest; ``nnunet``: the voxel behind the centre has the largest, and
            they are rounded to half precision.

    Returns:
        (*window) float32, above 0.
    """
    if tiling == NNUNET:
        return _nnunet_gaussian(window, sigma)
    weights = torch.ones(())
    for size in window:
        positions = torch.arange(-(size - 1) / 2.0, (size - 1) / 2.0 + 1, dtype=torch.float)
        weights = weights.unsqueeze(-1) * torch.exp(positions**2 / (-2 * (sigma * size) ** 2))
    return weights.clamp_(min=max(float(weights.min()), SMALLEST_WEIGHT))


def _nnunet_gaussian(window: Sequence[int], sigma: float) -> Tensor:
    weights = np.zeros(tuple(window))
    weights[tuple(size // 2 for size in window)] = 1
    weights = ndimage.gaussian_filter(weights, [size * sigma for size in window], mode="constant")
    halved = torch.from_numpy(weights / (weights.max() / NNUNET_LARGEST)).half()
    halved[halved == 0] = halved[halved > 0].min()
    return halved.float()


def best_axis(size: Sequence[int], window: Sequence[int]) -> int:
    """The axis along which windows are best sorted: the first, unless another holds a clearly smaller part of a scan.

    Args:
        size: Voxels of the scan along each axis.
        window: Voxels of a window along each axis.
    """
    shares = [min(1.0, extent / whole) for extent, whole in zip(window, size, strict=True)]
    best = min(range(len(shares)), key=shares.__getitem__)
    return best if shares[best] < FAVOURED * shares[0] else 0


def schedule(
    size: Sequence[int],
    window: Sequence[int],
    overlap: float,
    axis: int,
    passes: Sequence[Pass],
    batch_size: int,
    whole: bool = False,
    tiling: str = MONAI,
) -> Schedule:
    """Order the windows of all passes.

    Within a pass they are sorted by their place along ``axis``, then as MONAI orders them. Of the two orders of passes,
    the one that holds fewer planes is used; both add up the same numbers in the same order.

    Args:
        size: Voxels of the scan along each axis, at least those of a window.
        window: Voxels of a window along each axis.
        overlap: Fraction of a window that overlaps the next.
        axis: The axis along which planes are completed.
        passes: The passes.
        batch_size: Windows that are computed together.
        whole: Whether the whole result is held anyway.
        tiling: As of `starts`.
    """
    along = [starts(*extents, overlap, tiling) for extents in zip(size, window, strict=True)]
    # nnU-Net mirrors each window where it lies, MONAI the scan.
    places = [_places(size, window, along, axis, () if tiling == NNUNET else one.flipped) for one in passes]
    one_by_one = [(index, place) for index, some in enumerate(places) for place in some]
    in_turn = _planned(one_by_one, size, window, axis, passes, batch_size, in_turn=True)
    if len(passes) == 1 or whole:
        return in_turn
    side_by_side = sorted(one_by_one, key=lambda job: (job[1][axis], passes[job[0]].network))
    together = _planned(side_by_side, size, window, axis, passes, batch_size, in_turn=False)
    return together if sum(together.held) < size[axis] + max(in_turn.held) else in_turn


def _places(
    size: Sequence[int], window: Sequence[int], along: Sequence[Sequence[int]], axis: int, flipped: Sequence[int]
) -> list[Place]:
    """Places of a pass. Those of a mirrored one are the places on the mirrored scan, seen from the scan itself."""
    z, y, x = (
        [size[one] - window[one] - start for start in found] if one in flipped else found
        for one, found in enumerate(along)
    )
    return sorted(product(z, y, x), key=lambda place: place[axis])


def _planned(
    jobs: Sequence[tuple[int, Place]],
    size: Sequence[int],
    window: Sequence[int],
    axis: int,
    passes: Sequence[Pass],
    batch_size: int,
    in_turn: bool,
) -> Schedule:
    """Group the windows into steps, and follow which planes each completes."""
    left = [[place[axis] for index, place in reversed(jobs) if index == one] for one in range(len(passes))]
    reached, held, used = ([0] * len(passes) for _ in range(3))
    steps = []
    for windows in _batches(jobs, axis, passes, batch_size):
        for index, place in windows:
            reached[index] = max(reached[index], place[axis] + window[axis])
            left[index].pop()
        held = [max(most, end - start) for most, end, start in zip(held, reached, used, strict=True)]
        used = [some[-1] if some else size[axis] for some in left]
        if not in_turn:
            used = [min(used)] * len(passes)
        steps.append(Step(windows, tuple(used)))
    return Schedule(tuple(steps), tuple(held), in_turn)


def _batches(
    jobs: Sequence[tuple[int, Place]], axis: int, passes: Sequence[Pass], batch_size: int
) -> Iterator[tuple[tuple[int, Place], ...]]:
    """Consecutive windows of the same network.

    A batch ends with a row, the windows at the same place along the axis, since more planes would be held if it
    reached into the next; unless the row is shorter than a batch.
    """
    batch: list[tuple[int, Place]] = []
    for (network, _), group in groupby(jobs, key=lambda job: (passes[job[0]].network, job[1][axis])):
        row = list(group)
        if batch and (len(row) >= batch_size or passes[batch[0][0]].network != network):
            yield tuple(batch)
            batch = []
        for job in row:
            batch.append(job)
            if len(batch) == batch_size:
                yield tuple(batch)
                batch = []
    if batch:
        yield tuple(batch)
