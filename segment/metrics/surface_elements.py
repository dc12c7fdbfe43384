"""Surface of a mask as elements with a position and an area, as DeepMind's surface-distance defines it.

An element lies at every corner of voxels (in 2D: of pixels) where the voxels that meet are neither all inside nor all
outside. Its area is that of the surface that marching cubes (Lorensen and Cline 1987) draws between the centres of
these eight voxels; in 2D, the length of the contour between four. Source: Nikolov et al. 2021, doi:10.2196/26151.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

_CORNERS = 8


def neighbour_codes(mask: np.ndarray) -> np.ndarray:
    """Which of the voxels around every corner are inside, as the bits of one number.

    Args:
        mask: Boolean ``(*spatial)``, 2D or 3D.

    Returns:
        uint8, one more along every axis than `mask`: 0 where all voxels that meet at the corner are outside, 15 in 2D
        or 255 in 3D where all are inside; beyond the array is outside. The last axis changes the lowest bit.
    """
    codes = np.pad(mask, 1).view(np.uint8)
    for step, axis in enumerate(reversed(range(mask.ndim))):
        along = np.moveaxis(codes, axis, 0)
        codes = np.moveaxis(along[:-1] | along[1:] << np.uint8(1 << step), 0, axis)
    return np.ascontiguousarray(codes)


def element_areas(spacing: Sequence[float]) -> np.ndarray:
    """Area of the surface element of every neighbour code.

    Args:
        spacing: Voxel size in mm, 2D or 3D, in array order.

    Returns:
        float64: 16 lengths in mm, or 256 areas in mm2, by the codes of `neighbour_codes`.

    Raises:
        ValueError: The spacing has neither two nor three axes.
    """
    if len(spacing) == 2:
        return _contour_lengths(*spacing)
    if len(spacing) != 3:
        raise ValueError(f"surfaces are defined in 2D and 3D, not in {len(spacing)}D")
    sides = np.prod(spacing) / np.asarray(spacing, np.float64)
    return np.linalg.norm(_area_vectors() * sides, axis=2).sum(axis=1)


def _contour_lengths(height: float, width: float) -> np.ndarray:
    """Contour between the centres of 2 x 2 pixels: it cuts off a corner, or passes straight through."""
    corner = math.hypot(height, width) / 2
    lengths = np.full(16, corner)
    lengths[[0b0000, 0b1111]] = 0
    lengths[[0b0011, 0b1100]] = width
    lengths[[0b0101, 0b1010]] = height
    lengths[[0b0110, 0b1001]] = 2 * corner
    return lengths


@functools.cache
def _area_vectors() -> np.ndarray:
    """Area vectors (code, triangle, axis) of the triangles of every code between voxels of unit size.

    From scikit-image's marching cubes. Of the codes that differ by exchanging inside and outside, which it does not
    draw with the same area where the case is ambiguous, the one with fewer voxels inside counts, as in the original.
    """
    from skimage.measure import marching_cubes

    vectors = np.zeros((1 << _CORNERS, 5, 3))
    for code in range(1, (1 << _CORNERS) - 1):
        lesser = code if code.bit_count() <= _CORNERS // 2 else code ^ 0xFF
        cube = np.array([lesser >> bit & 1 for bit in range(_CORNERS)], np.float64).reshape(2, 2, 2)
        vertices, triangles, *_ = marching_cubes(cube, 0.5, method="lorensen")
        first, second, third = np.moveaxis(vertices[triangles].astype(np.float64), 1, 0)
        vectors[code, : len(triangles)] = np.cross(second - first, third - first) / 2
    vectors.flags.writeable = False
    return vectors
