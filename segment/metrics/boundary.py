"""Boundary voxels of a mask, and distances between two sets of points of one grid."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

_REACH = 5  # voxels along each axis that are looked at first
_NEAR = 60  # and about so many voxels in all
_DENSE = 20  # the distance transform of the whole box is faster than a search tree from one point in so many voxels on


def boundary(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask that share a face with a voxel outside it; beyond the array is outside.

    Args:
        mask: Boolean ``(*spatial)``.

    Returns:
        Boolean of the same shape.
    """
    inner = mask.copy()
    for axis in range(mask.ndim):
        inside, eroded = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        eroded[1:] &= inside[:-1]
        eroded[:-1] &= inside[1:]
        eroded[[0, -1]] = False
    return mask ^ inner


def directed_distances(
    first: np.ndarray, second: np.ndarray, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance from every point of each set to the nearest point of the other.

    Args:
        first: Boolean grid ``(*spatial)``, true at its points, of which there is at least one.
        second: Boolean grid of the same shape, likewise.
        spacing: Distance of neighbouring points along every axis, in mm.

    Returns:
        Distances in mm of the points of `first`, and of those of `second`, float64, in the order of ``np.flatnonzero``.
    """
    return _distances(first, second, spacing), _distances(second, first, spacing)


def _distances(points: np.ndarray, targets: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance of every point to the nearest target; 0 for shared points, which need no search."""
    index = np.flatnonzero(points)
    apart = ~targets.ravel()[index]
    distances = np.zeros(len(index))
    distances[apart] = _nearest(index[apart], targets, spacing)
    return distances


def _nearest(index: np.ndarray, targets: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance of points, given by their flat index in the grid, to the nearest target.

    Most are near, so the surroundings are looked at first, in order of their distance; the rest are searched for.
    """
    distances = np.empty(len(index))
    shells = _shells(tuple(spacing))
    reach = int(max(np.abs(steps).max() for _, steps in shells))
    padded = np.pad(targets, reach)
    strides = np.array(padded.strides)
    points = np.column_stack(np.unravel_index(index, targets.shape))
    flat, left, at = padded.ravel(), np.arange(len(index)), (points + reach) @ strides
    for distance, steps in shells:
        if len(left) == 0:
            return distances
        found = flat.take(at + (steps @ strides)[:, None]).any(axis=0)  # a step a row: short rows reduce slowly
        distances[left[found]] = distance
        left, at = left[~found], at[~found]
    if len(left) * _DENSE > targets.size:
        from scipy.ndimage import distance_transform_edt

        distances[left] = distance_transform_edt(~targets, sampling=spacing).ravel()[index[left]]
    elif len(left):
        from scipy.spatial import KDTree

        scale = np.asarray(spacing, np.float64)
        tree = KDTree(np.argwhere(targets) * scale, balanced_tree=False, compact_nodes=False)
        distances[left] = tree.query(points[left] * scale)[0]
    return distances


@functools.lru_cache(maxsize=64)
def _shells(spacing: tuple[float, ...]) -> list[tuple[float, np.ndarray]]:
    """The nearest surroundings of a point, complete up to some distance: distance in mm, and steps (step, axis)."""
    steps = np.stack(np.meshgrid(*[np.arange(-_REACH, _REACH + 1)] * len(spacing), indexing="ij"), axis=-1)
    steps = steps.reshape(-1, len(spacing))
    distances = np.sqrt(((steps * spacing) ** 2).sum(axis=1))
    complete = distances < (_REACH + 1) * min(spacing)
    every = np.unique(distances[complete])[1:]
    sizes = np.cumsum([np.count_nonzero(distances == distance) for distance in every])
    return [(float(distance), steps[distances == distance]) for distance in every[: np.searchsorted(sizes, _NEAR) + 1]]
