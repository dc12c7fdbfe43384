"""Spatial augmentation, second half: one resampling of image and reference along given positions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SLAB = 8  # planes that are worked on at once on a CPU, so that their positions stay in its cache


def resample(
    image: Tensor, reference: Tensor, matrix: np.ndarray, shape: Sequence[int], bend: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Take image (linear) and reference (most weight) at positions about the centre of a box, once.

    Outside the box the image is 0 and the reference is class 0, as in nnU-Net. A voxel's class is the one with the
    largest sum of linear weights, as in batchgeneratorsv2; between equals, that of the nearest voxel among them.

    Args:
        image: (n, *source) float32; all n move alike.
        reference: (m, *source) uint8 class indices.
        matrix: (axes, axes): position in the source = matrix @ (voxel + bend), both from the centre, in voxels.
        shape: Voxels of the result, one an axis.
        bend: (axes, *shape) displacement in voxels of the result; None for none.

    Returns:
        (n, *shape) float32 and (m, *shape) uint8.
    """
    diagonal = bend is None and not np.any(matrix - np.diag(np.diag(matrix)))
    moved = _separably(image, np.diag(matrix), shape) if diagonal else image.new_empty(len(image), *shape)
    labels = reference.new_zeros(len(reference), *shape)
    classes = _Classes(reference) if bool(reference.any()) else None
    step = SLAB if len(shape) == 3 and image.device.type == "cpu" else shape[0]
    for start in range(0, shape[0], step):
        rows = slice(start, min(start + step, shape[0]))
        if classes is None and diagonal:
            break
        where = _positions(matrix, shape, image.shape[1:], rows, bend, image.device)
        if not diagonal:
            moved[:, rows] = _linear(image, where)
        if classes is not None:
            labels[:, rows] = classes.at(where)
    return moved, labels


def bspline_field(control: np.ndarray, shape: Sequence[int], distance: Sequence[float], device: torch.device) -> Tensor:
    """Displacements between control points by cubic B-splines (free-form deformation, Rueckert et al. 1999).

    Splines are positive and sum to 1, so no displacement exceeds the largest of a control point.

    Args:
        control: (axes, *points) displacements; see `control_points` for how many.
        shape: Voxels an axis.
        distance: Voxels between control points, one an axis.
        device: Where the field is to lie.

    Returns:
        (axes, *shape) float32, in the unit of the control points.
    """
    field = torch.from_numpy(control.astype(np.float32)).to(device)
    for axis, (size, step, points) in enumerate(zip(shape, distance, control.shape[1:], strict=True)):
        at = np.arange(size) / step
        first = np.floor(at).astype(int)
        t = at - first
        weights = np.zeros((size, points), np.float32)
        cubics = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        for k, cubic in enumerate(cubics):
            weights[np.arange(size), first + k] = cubic / 6
        field = torch.tensordot(field, torch.from_numpy(weights).to(device), dims=([1], [1]))
        assert field.shape[-1] == shape[axis]
    return field


def control_points(shape: Sequence[int], distance: Sequence[float]) -> tuple[int, ...]:
    """How many control points a box needs along each axis, one beyond either end."""
    return tuple(int((size - 1) / step) + 4 for size, step in zip(shape, distance, strict=True))


def _positions(
    matrix: np.ndarray,
    shape: Sequence[int],
    source: Sequence[int],
    rows: slice,
    bend: Tensor | None,
    device: torch.device,
) -> list[Tensor]:
    """Source position in voxels along each axis of the rows of the result, each broadcastable to them."""
    steps = []
    for axis, size in enumerate(shape):
        step = torch.arange(size, dtype=torch.float32, device=device) - (size - 1) / 2
        steps.append((step[rows] if axis == 0 else step).view(-1, *[1] * (len(shape) - 1 - axis)))
    if bend is not None:
        steps = [step + shift[rows] for step, shift in zip(steps, bend, strict=True)]
    positions = []
    for line, size in zip(matrix.tolist(), source, strict=True):
        parts = [factor * step for factor, step in zip(line, steps, strict=True) if factor]
        position = parts.pop(0) + (size - 1) / 2
        # The smallest tensors first: only the last sum is as large as the patch.
        for part in parts:
            position = position + part
        positions.append(position)
    return positions


def _linear(image: Tensor, where: list[Tensor]) -> Tensor:
    """Linear interpolation with zeros outside: (n, *source) at positions gives (n, *rows)."""
    sizes = image.shape[1:]
    shape = torch.broadcast_shapes(*(axis.shape for axis in where))
    grid = image.new_empty(*shape, len(where))
    for axis, (position, size) in enumerate(zip(where, sizes, strict=True)):
        # The sampler counts axes from the last one, and from -1 to 1 between the outer faces of the box.
        grid[..., len(where) - 1 - axis] = position.mul(2 / size).add_(1 / size - 1)
    if len(where) == 2 or image.device.type != "cpu":
        return functional.grid_sample(image[None], grid[None], padding_mode="zeros", align_corners=False)[0]
    # Its threads share out the batch, so each plane of the rows becomes one.
    planes = functional.grid_sample(
        image.expand(shape[0], *image.shape), grid[:, None], padding_mode="zeros", align_corners=False
    )
    return planes[:, :, 0].transpose(0, 1)


def _separably(image: Tensor, scale: np.ndarray, shape: Sequence[int]) -> Tensor:
    """Linear interpolation where no axis mixes with another: one axis after the other."""
    for axis, (factor, size) in enumerate(zip(scale, shape, strict=True), start=1):
        n = image.shape[axis]
        position = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * float(factor) + (n - 1) / 2
        first = position.floor()
        sides = []
        for index, weight in ((first, 1 - (position - first)), (first + 1, position - first)):
            weight = weight * ((index >= 0) & (index < n))
            taken = image.index_select(axis, index.clamp(0, n - 1).long().to(image.device))
            sides.append(taken.mul_(weight.to(image.device).view(-1, *[1] * (image.ndim - 1 - axis))))
        image = sides[0].add_(sides[1])
    return image


class _Classes:
    """Class indices of a box, made ready to be asked between voxels: most need one look, only borders a vote."""

    def __init__(self, reference: Tensor) -> None:
        self.sizes = reference.shape[1:]
        # One voxel of class 0 around the box stands for all that lies outside.
        padded = functional.pad(reference, [1, 1] * len(self.sizes))
        low, high = padded, padded
        for axis in range(1, padded.ndim):
            n = padded.shape[axis] - 1
            low = torch.minimum(low.narrow(axis, 0, n), low.narrow(axis, 1, n))
            high = torch.maximum(high.narrow(axis, 0, n), high.narrow(axis, 1, n))
        # Per cell between neighbouring voxels: their class, or -1 where they are not of one mind.
        self.cells = torch.where(low == high, high.short(), -1).flatten(1)
        self.voxels = padded.flatten(1)

    def at(self, where: list[Tensor]) -> Tensor:
        """Classes at positions (voxels of the box, one tensor an axis, broadcastable to each other)."""
        firsts = [p.floor().clamp_(-1, size - 1) for p, size in zip(where, self.sizes, strict=True)]
        cell = self._flat([first.int() + 1 for first in firsts], [size + 1 for size in self.sizes])
        found = self.cells.index_select(1, cell.flatten()).view(len(self.cells), *cell.shape)
        mixed = (found < 0).nonzero(as_tuple=True)
        result = found.to(torch.uint8)
        if len(mixed[0]):
            first = [axis.expand(cell.shape)[mixed[1:]] for axis in firsts]
            share = [p.expand(cell.shape)[mixed[1:]].sub_(f).clamp_(0, 1) for p, f in zip(where, first, strict=True)]
            result[mixed] = self._vote(mixed[0], [f.long() + 1 for f in first], share)
        return result

    def _flat(self, index: list[Tensor], sizes: Sequence[int]) -> Tensor:
        flat = index[0]
        for axis, size in zip(index[1:], sizes[1:], strict=True):
            flat = flat * size + axis
        return flat

    def _vote(self, member: Tensor, first: list[Tensor], share: list[Tensor]) -> Tensor:
        """The class with most linear weight among the voxels around each of a list of positions."""
        sizes = [size + 2 for size in self.sizes]
        start = self._flat(first, sizes) + member * self.voxels.shape[1]
        labels, weights = [], []
        for corner in itertools.product((0, 1), repeat=len(sizes)):
            offset = 0
            weight = torch.ones_like(share[0])
            for side, part, size in zip(corner, share, sizes, strict=True):
                offset = offset * size + side
                weight = weight * (part if side else 1 - part)
            labels.append(self.voxels.view(-1).index_select(0, start + offset))
            weights.append(weight)
        # The bonus settles what is equal (to 1e-4) by the weight of the nearest voxel.
        scores = [weight * 1.0001 for weight in weights]
        for i, j in itertools.combinations(range(len(labels)), 2):
            same = labels[i] == labels[j]
            scores[i] += weights[j] * same
            scores[j] += weights[i] * same
        winner = torch.stack(scores).argmax(dim=0)
        return torch.stack(labels).gather(0, winner[None])[0]
