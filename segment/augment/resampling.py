"""Spatial augmentation, part 2: resample image and reference once at given positions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segment.augment.spatial import ROUNDING

SLAB = 8  # planes that are processed at once on a CPU, so that their positions stay in its cache
MOST_VOXELS = 1 << 21  # that are processed at once on another device, in about 200 MB


def resample(
    image: Tensor,
    reference: Tensor,
    matrix: np.ndarray,
    shape: Sequence[int],
    displacement: Tensor | None = None,
    largest: Sequence[float] | None = None,
    at_borders: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Resample image (linear) and reference (largest weight) once, at positions relative to the centre of a box.

    Outside the box the image is 0 and the reference is class 0, as in nnU-Net. A voxel's class is the one with the
    largest sum of linear weights, as in batchgeneratorsv2; ties go to the class of the nearest voxel among them.

    Args:
        image: (n, *source) float32; all n are moved in the same way.
        reference: (m, *source) uint8 class indices.
        matrix: (axes, axes): source position = matrix @ (voxel + displacement), both from the centre, in voxels.
        shape: Voxels of the result, one per axis.
        displacement: (axes, *shape) displacement in voxels of the result; None for none.
        largest: What no displacement exceeds along each axis, in voxels; None: read from them, which waits for their
            device.
        at_borders: Whether only voxels near a border between classes vote, which waits for the device to count them;
            None: on a CPU, where others take longer.

    Returns:
        (n, *shape) float32 and (m, *shape) uint8.
    """
    source, on_cpu = image.shape[1:], image.device.type == "cpu"
    if displacement is not None and largest is None:
        largest = displacement.abs().flatten(1).amax(dim=1).tolist()
    if _reaches_outside(matrix, shape, source, largest):
        # One voxel of zeros around the box represents everything outside.
        image, reference = (functional.pad(part, [1, 1] * len(shape)) for part in (image, reference))
    image, reference = image.contiguous(), reference.contiguous()
    diagonal = displacement is None and not np.any(matrix - np.diag(np.diag(matrix)))
    moved = image.new_empty(len(image), 0 if diagonal else shape[0], *shape[1:])
    labels = reference.new_zeros(len(reference), *shape)
    at_borders = on_cpu if at_borders is None else at_borders
    classes = None if at_borders and not bool(reference.any()) else _Classes(reference, at_borders)
    step = shape[0]
    if len(shape) == 3 and not diagonal:
        step = SLAB if on_cpu else max(1, MOST_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        rows = slice(start, min(start + step, shape[0]))
        first, fractions = _cells(
            _positions(matrix, shape, image.shape[1:], rows, displacement, image.device), image.shape[1:]
        )
        cell = _flat_index(first, image.shape[1:])
        if diagonal:
            moved = _linear_separable(image, first, fractions)
        else:
            moved[:, rows] = _linear(image, cell, fractions)
        if classes is not None:
            labels[:, rows] = classes.at(cell, fractions)
    return moved, labels


def bspline_field(control: np.ndarray, shape: Sequence[int], distance: Sequence[float], device: torch.device) -> Tensor:
    """Displacements between control points by cubic B-splines (free-form deformation, Rueckert et al. 1999).

    Splines are positive and sum to 1, so no displacement exceeds the largest one of a control point.

    Args:
        control: (axes, *points) displacements; see `control_points` for how many.
        shape: Voxels per axis.
        distance: Voxels between control points, one number per axis.
        device: Device of the field.

    Returns:
        (axes, *shape) float32, in the unit of the control points.
    """
    field = _sent(control, device)
    for axis, (size, step, points) in enumerate(zip(shape, distance, control.shape[1:], strict=True)):
        at = np.arange(size) / step
        first = np.floor(at).astype(int)
        t = at - first
        weights = np.zeros((size, points), np.float32)
        cubics = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        for k, cubic in enumerate(cubics):
            weights[np.arange(size), first + k] = cubic / 6
        field = torch.tensordot(field, _sent(weights, device), dims=([1], [1]))
        assert field.shape[-1] == shape[axis]
    return field


def control_points(shape: Sequence[int], distance: Sequence[float]) -> tuple[int, ...]:
    """Number of control points that a box needs along each axis, with one beyond either end."""
    return tuple(int((size - 1) / step) + 4 for size, step in zip(shape, distance, strict=True))


def _sent(array: np.ndarray, device: torch.device) -> Tensor:
    """An array as float32 on a device, without waiting for what the device does before."""
    # Metal would read the array later, when its memory may hold something else.
    return torch.from_numpy(array.astype(np.float32)).to(device, non_blocking=device.type != "mps")


def _reaches_outside(
    matrix: np.ndarray, shape: Sequence[int], source: Sequence[int], largest: Sequence[float] | None
) -> bool:
    """Whether a position may be beyond the centres of the box's outermost voxels."""
    reach = (np.asarray(shape) - 1) / 2 + (0 if largest is None else np.asarray(largest))
    # A single voxel has no neighbour to interpolate with.
    return min(source) < 2 or bool(np.any(np.abs(matrix) @ reach > (np.asarray(source) - 1) / 2 + 2 * ROUNDING))


def _positions(
    matrix: np.ndarray,
    shape: Sequence[int],
    source: Sequence[int],
    rows: slice,
    displacement: Tensor | None,
    device: torch.device,
) -> list[Tensor]:
    """Source position in voxels along each axis of the rows of the result, each broadcastable to them."""
    steps = []
    for axis, size in enumerate(shape):
        step = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
        steps.append((step[rows] if axis == 0 else step).view(-1, *[1] * (len(shape) - 1 - axis)))
    if displacement is not None:
        steps = [step + shift[rows] for step, shift in zip(steps, displacement, strict=True)]
    positions = []
    for line, size in zip(matrix.tolist(), source, strict=True):
        parts = [factor * step for factor, step in zip(line, steps, strict=True) if factor]
        position = parts.pop(0) + (size - 1) / 2
        # Smallest tensors first: only the last sum is as large as the patch.
        for part in parts:
            position = position + part
        positions.append(position)
    return positions


def _cells(positions: list[Tensor], sizes: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Voxel before each position (integers, one tensor per axis) and the weight of the voxel after it."""
    first, fractions = [], []
    for position, size in zip(positions, sizes, strict=True):
        before = position.floor().clamp_(0, max(size - 2, 0))
        fractions.append((position - before).clamp_(0, 1))
        first.append(before.int())
    return first, fractions


def _flat_index(index: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Indices in a flattened box of these sizes."""
    flat = index[0]
    for axis, size in zip(index[1:], sizes[1:], strict=True):
        flat = flat * size + axis
    return flat


def _linear(image: Tensor, cell: Tensor, fractions: list[Tensor]) -> Tensor:
    """Interpolate linearly between the corners of cells: (n, *source) to (n, *cells)."""
    flat, index = image.flatten(1), cell.flatten()

    def between(axis: int, offset: int) -> Tensor:
        if axis == len(fractions):
            return flat[:, offset:].index_select(1, index).view(-1, *cell.shape)
        low, high = between(axis + 1, offset), between(axis + 1, offset + image.stride(axis + 1))
        return low.lerp_(high, fractions[axis])

    return between(0, 0)


def _linear_separable(image: Tensor, first: list[Tensor], fractions: list[Tensor]) -> Tensor:
    """Interpolate linearly, one axis after the other, where axes are independent."""
    for axis, (before, part) in enumerate(zip(first, fractions, strict=True), start=1):
        low, high = (image.index_select(axis, index) for index in (before.flatten(), before.flatten() + 1))
        image = low.lerp_(high, part)
    return image


class _Classes:
    """Class indices of a box, prepared for look-ups between voxels.

    Args:
        reference: (m, *source) uint8.
        at_borders: Whether only cells at borders vote.
    """

    def __init__(self, reference: Tensor, at_borders: bool) -> None:
        self.strides = reference.stride()[1:]
        self.voxels = reference.flatten(1)
        self.at_borders = at_borders
        if not at_borders:
            return
        low = high = self.voxels
        # Cells that start in a last row or column are meaningless and never looked up.
        for stride in self.strides:
            n = low.shape[1] - stride
            low = torch.minimum(low[:, :n], low[:, stride:])
            high = torch.maximum(high[:, :n], high[:, stride:])
        self.class_of = high
        self.mixed = low != high

    def at(self, cell: Tensor, fractions: list[Tensor]) -> Tensor:
        """Classes in cells (indexed by their first corner), (m, *cells)."""
        index = cell.flatten()
        parts = [part.expand(cell.shape).reshape(-1) for part in fractions]
        if not self.at_borders:
            return self._all_vote(index, parts).view(-1, *cell.shape)
        result = self.class_of.index_select(1, index)
        undecided = self.mixed.index_select(1, index).nonzero()
        if len(undecided):
            member, place = undecided.unbind(1)
            start = index[place].long() + member * self.voxels.shape[1]
            result[member, place] = self._vote(start, [part[place] for part in parts])
        return result.view(-1, *cell.shape)

    def _corners(self, fractions: list[Tensor]) -> tuple[list[int], list[Tensor]]:
        """Offset of each corner of a cell from its first one, and its linear weight."""
        offsets, weights = [0], [torch.ones_like(fractions[0])]
        for part, stride in zip(fractions, self.strides, strict=True):
            offsets = [*offsets, *(offset + stride for offset in offsets)]
            weights = [*(weight * (1 - part) for weight in weights), *(weight * part for weight in weights)]
        return offsets, weights

    def _vote(self, start: Tensor, fractions: list[Tensor]) -> Tensor:
        """The class with the largest linear weight among the corners of cells."""
        offsets, weights = self._corners(fractions)
        labels = [self.voxels.view(-1).index_select(0, start + offset) for offset in offsets]
        # The bonus breaks ties (to 1e-4) by the weight of the nearest voxel.
        scores = [weight * 1.0001 for weight in weights]
        nothing = torch.zeros((), device=start.device)
        for i, j in itertools.combinations(range(len(labels)), 2):
            same = labels[i] == labels[j]
            scores[i] += torch.where(same, weights[j], nothing)
            scores[j] += torch.where(same, weights[i], nothing)
        return _best(scores, labels)

    def _all_vote(self, index: Tensor, fractions: list[Tensor]) -> Tensor:
        """As `_vote` for all members, (m, cells), in few operations on tensors of all corners."""
        offsets, weights = self._corners(fractions)
        labels = torch.stack([self.voxels[:, offset:].index_select(1, index) for offset in offsets])
        shares = torch.stack(weights)[:, None]
        scores = [
            ((labels == label) * shares).sum(0) + 1e-4 * share for label, share in zip(labels, shares, strict=True)
        ]
        return _best(scores, list(labels))


def _best(scores: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """The label with the highest score, the first of equal ones."""
    best, winner = scores[0], labels[0]
    for score, label in zip(scores[1:], labels[1:], strict=True):
        winner = torch.where(score > best, label, winner)
        best = torch.maximum(best, score)
    return winner
