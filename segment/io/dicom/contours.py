"""Contours of a mask: closed lines without holes, which programs fill alike."""

from __future__ import annotations

import numpy as np

_STEP = 1e-9


def contours_of(plane: np.ndarray) -> list[np.ndarray]:
    """The closed contours around the voxels of a plane.

    They pass midway between the voxels and others, so that filling them gives the plane again. A hole is joined to the
    contour around it by a channel of no width, since some programs fill the union of all contours of a structure and
    others leave out what lies in two of them. Channels run midway between two rows, away from voxel centres.

    Args:
        plane: bool ``(y, x)``.

    Returns:
        (row, column) of the points of each, without the first one repeated.
    """
    from skimage.measure import find_contours

    lines = [line[:-1] - 1 for line in find_contours(np.pad(plane, 1).astype(np.float32), 0.5)]
    merged = [line for line in lines if _area(line) > 0]
    holes = [line for line in lines if _area(line) < 0]
    for hole in sorted(holes, key=lambda line: float(line[:, 1].min())):
        _join(merged, hole)
    return merged


def _area(line: np.ndarray) -> float:
    """Signed area; scikit-image runs around voxels and around holes in opposite directions."""
    following = np.roll(line, -1, axis=0)
    return float((line[:, 1] * following[:, 0] - following[:, 1] * line[:, 0]).sum() / 2)


def _join(merged: list[np.ndarray], hole: np.ndarray) -> None:
    """Join a hole to the nearest contour at its left, which is around it or around an earlier hole beside it."""
    leftmost = hole[hole[:, 1].argmin()]
    row = float(np.floor(leftmost[0])) + 0.5
    start, own = min(_crossings(hole, row))
    best = (-np.inf, 0, 0)
    for index, line in enumerate(merged):
        for column, place in _crossings(line, row):
            if column < start - _STEP:
                best = max(best, (column, place, index))
    column, place, index = best
    outer = merged[index]
    here, there = np.array([[row, column]]), np.array([[row, start]])
    around = np.concatenate([hole[own + 1 :], hole[: own + 1]])
    joined = [outer[: place + 1], here, there, around, there, here, outer[place + 1 :]]
    merged[index] = np.concatenate(joined)


def _crossings(line: np.ndarray, row: float) -> list[tuple[float, int]]:
    """Columns at which a closed line meets a row, and the points after which it does."""
    following = np.roll(line, -1, axis=0)
    before, after = line[:, 0] - row, following[:, 0] - row
    touching = np.flatnonzero(before == 0)
    crossing = np.flatnonzero(before * after < 0)
    share = before[crossing] / (before[crossing] - after[crossing])
    columns = line[crossing, 1] + share * (following[crossing, 1] - line[crossing, 1])
    return [
        *((float(line[place, 1]), int(place)) for place in touching),
        *((float(column), int(place)) for column, place in zip(columns, crossing, strict=True)),
    ]
