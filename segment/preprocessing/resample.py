"""Resampling of scans as in nnU-Net (Isensee et al. 2021), slab by slab in bounded memory.

Cubic splines are separable and linear, so resampling is a matrix product along each axis, with matrices that have few
entries per row: the same result as ``scipy.ndimage.zoom`` of the whole array at lower cost. The outer edges of the
voxel grids coincide, and values beyond the scan repeat its outermost voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

ANISOTROPY = 3.0  # ratio of the largest to the smallest voxel size above which the coarse axis is not interpolated
SLAB = 1 << 23  # voxels of a slab
_POLE = 3**0.5 - 2  # of the cubic spline's prefilter
_REACH = 14  # voxels after which the prefilter has decayed to 1e-8
_ROWS = 64  # of a matrix that are multiplied at once


def coarse_axis(spacing: Sequence[float], target: Sequence[float]) -> int | None:
    """The axis resampled by nearest neighbour: the coarsest of the scan, else of the target, if it is unique.

    Args:
        spacing: Voxel size of the scan, mm; three numbers.
        target: Voxel size after resampling, mm.

    Returns:
        The axis, or None if all axes are interpolated: no voxel size is more than three times another, or two axes are
        equally coarse.
    """
    for sides in (np.asarray(spacing, float), np.asarray(target, float)):
        if sides.max() / sides.min() > ANISOTROPY:
            coarse = np.flatnonzero(sides.max() / sides == 1)
            return int(coarse[0]) if len(coarse) == 1 else None
    return None


def resample_image(image: np.ndarray, shape: Sequence[int], coarse: int | None) -> np.ndarray:
    """Resample by cubic splines, clipped to the original range (per slice, if slices are resampled individually).

    Args:
        image: (channel, *spatial) float32, with two or three spatial axes.
        shape: Voxels along each spatial axis after resampling.
        coarse: From `coarse_axis`; ignored for 2D images.

    Returns:
        (channel, *shape) float32; `image` itself if it has this shape.
    """
    if image.shape[1:] == tuple(shape):
        return image
    result = np.empty((len(image), *shape), np.float32)
    for channel, out in zip(image, result, strict=True):
        if image.ndim == 3:
            _resample(channel[None], out[None], slices=True)
        else:
            first = coarse or 0
            _resample(np.moveaxis(channel, first, 0), np.moveaxis(out, first, 0), slices=coarse is not None)
    return result


def _resample(channel: np.ndarray, out: np.ndarray, slices: bool) -> None:
    """Fill ``out`` from a channel with three axes; ``slices``: the first axis is resampled by nearest neighbour."""
    low, high = channel.min(axis=(1, 2), keepdims=True), channel.max(axis=(1, 2), keepdims=True)
    step = max(1, SLAB // max(channel[0].size, out[0].size))
    taken = nearest(len(channel), len(out))
    for start in range(0, len(out), step):
        stop = min(start + step, len(out))
        if slices:
            slab, minimum, maximum = (part[taken[start:stop]] for part in (channel, low, high))
        else:
            slab, minimum, maximum = _product(channel, 0, len(out), start, stop), low.min(), high.max()
        for axis in (1, 2):
            if slab.shape[axis] != out.shape[axis]:
                rows = range(0, out.shape[axis], _ROWS)
                parts = [_product(slab, axis, out.shape[axis], row, row + _ROWS) for row in rows]
                slab = np.concatenate(parts, axis=axis)
        np.clip(slab, minimum, maximum, out=out[start:stop])


def _product(array: np.ndarray, axis: int, size: int, start: int, stop: int) -> np.ndarray:
    """Rows ``start:stop`` of the array resampled to another size along one axis."""
    stop = min(stop, size)
    if array.shape[axis] == size:
        return array[start:stop] if axis == 0 else array[(slice(None),) * axis + (slice(start, stop),)]
    first, matrix = _spline(array.shape[axis], size, start, stop)
    used = slice(first, first + matrix.shape[1])
    if axis == 0:
        return (matrix @ array[used].reshape(matrix.shape[1], -1)).reshape(-1, *array.shape[1:])
    return matrix @ array[:, used] if axis == 1 else array[:, :, used] @ matrix.T


@lru_cache(maxsize=512)
def _spline(old: int, new: int, start: int, stop: int) -> tuple[int, np.ndarray]:
    """Rows of the matrix that maps ``old`` samples to ``new`` ones: the first nonzero column and those from it on.

    The cubic B-spline at the new positions, times the prefilter that makes it interpolate the samples (Unser 1999,
    "Splines: a perfect fit for signal and image processing", box 2).
    """
    positions = centres(old, new)[start:stop]
    base = np.floor(positions).astype(int)
    t = (positions - base)[:, None]
    taps = np.concatenate([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    distance = np.arange(-_REACH, _REACH + 1)
    response = -6 * _POLE / (1 - _POLE**2) * _POLE ** np.abs(distance)
    band = np.stack([np.convolve(row, response) for row in taps])
    columns = np.clip(base[:, None] + np.arange(-1 - _REACH, _REACH + 3), 0, old - 1)
    first = int(columns.min())
    matrix = np.zeros((len(positions), int(columns.max()) - first + 1))
    np.add.at(matrix, (np.arange(len(positions))[:, None], columns - first), band)
    return first, matrix.astype(np.float32)


def centres(old: int, new: int) -> np.ndarray:
    """Centres of ``new`` voxels in units of ``old`` voxels that cover the same length; float64."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def nearest(old: int, new: int) -> np.ndarray:
    """For each of ``new`` voxels, the one of ``old`` voxels that contains its centre."""
    return np.clip(np.floor(centres(old, new) + 0.5).astype(int), 0, old - 1)


def neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``new`` voxels, the two of ``old`` voxels around its centre, and the weight of the second."""
    positions = centres(old, new)
    base = np.floor(positions).astype(int)
    return np.clip(base, 0, old - 1), np.clip(base + 1, 0, old - 1), positions - base


def resample_labels(labels: np.ndarray, shape: Sequence[int], coarse: int | None) -> np.ndarray:
    """Resample a label map: interpolate each label's mask linearly and use the label with the largest share.

    Ties go to the nearest voxel's label if it is among them, else to the lowest label. The cost does not depend on the
    number of labels: shares are computed only for voxels whose neighbours differ.

    Args:
        labels: (*spatial) uint8.
        shape: Voxels along each axis after resampling.
        coarse: From `coarse_axis`; ignored for 2D maps.

    Returns:
        (*shape) uint8, values of `labels` only; `labels` itself if it has this shape.
    """
    if labels.shape == tuple(shape):
        return labels
    result = np.empty(tuple(shape), np.uint8)
    if labels.ndim == 2:
        labels, out, coarse = labels[None], result[None], 0
    else:
        labels, out = (np.moveaxis(array, coarse or 0, 0) for array in (labels, result))
    sides = [neighbours(old, new) for old, new in zip(labels.shape, out.shape, strict=True)]
    closest = [nearest(old, new) for old, new in zip(labels.shape, out.shape, strict=True)]
    if coarse is not None:
        sides[0] = (closest[0], closest[0], np.zeros(len(out)))
    step = max(1, SLAB // max(labels[0].size, out[0].size))
    for start in range(0, len(out), step):
        part = slice(start, start + step)
        slab_sides = [tuple(numbers[part] for numbers in sides[0]), *sides[1:]]
        out[part] = labels[closest[0][part]][:, closest[1]][:, :, closest[2]]
        mixed = np.flatnonzero(_mixed(labels, slab_sides))
        for some in np.array_split(mixed, len(mixed) // (1 << 18) + 1):
            place = np.unravel_index(some, out[part].shape)
            out[part][place] = _majority_label(labels, slab_sides, place, out[part][place])
    return result


def _mixed(labels: np.ndarray, sides: Sequence[tuple[np.ndarray, ...]]) -> np.ndarray:
    """New voxels that are between old ones of different labels."""
    low = high = labels
    for axis, (before, after, _) in enumerate(sides):
        low = np.minimum(np.take(low, before, axis), np.take(low, after, axis))
        high = np.maximum(np.take(high, before, axis), np.take(high, after, axis))
    return low != high


def _majority_label(
    labels: np.ndarray,
    sides: Sequence[tuple[np.ndarray, ...]],
    place: tuple[np.ndarray, ...],
    nearest_label: np.ndarray,
) -> np.ndarray:
    """The label with the largest share at the given new voxels, given their nearest labels."""
    found, weights = [], []
    for corner in np.ndindex(2, 2, 2):
        at, weight = [], np.ones(len(nearest_label))
        for side, index, (before, after, share) in zip(corner, place, sides, strict=True):
            at.append((after if side else before)[index])
            weight *= share[index] if side else 1 - share[index]
        found.append(labels[tuple(at)])
        weights.append(weight)
    shares = [sum(weight * (other == label) for other, weight in zip(found, weights, strict=True)) for label in found]
    nearest_share = sum(weight * (other == nearest_label) for other, weight in zip(found, weights, strict=True))
    best = np.max(shares, axis=0) - 1e-9  # equal shares may differ by rounding
    lowest = np.min([np.where(share >= best, label, 255) for share, label in zip(shares, found, strict=True)], axis=0)
    return np.where(nearest_share >= best, nearest_label, lowest)
