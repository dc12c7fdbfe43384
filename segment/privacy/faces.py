"""Faces in scans of heads: whether one can be rendered, where it is, and scans without it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from segment.io.geometry import Grid
from segment.io.images import read_header, read_voxels
from segment.io.template import brain_map
from segment.privacy.heads import Head, find_head, may_hold_head

_BUFFER = 12.0  # mm between the brain's hull and a plane; 10 in Quickshear, whose mask is the scan's own
_STEEPEST = 50.0  # degrees between a plane and the horizontal
_BACK = 0.0  # mm: what lies behind, such as the jaw's angle, ears and neck, stays
_FRONT = ((-40.0, 40.0), (45.0, 105.0), (-75.0, -30.0))  # MNI mm: eyes, nose, cheeks
_SEEN, _TISSUE = 0.5, 0.25  # of these: least share in the scan, and in it of what is not air


def face_region(head: Head, grid: Grid) -> np.ndarray:
    """Find the voxels of a face: in front of the ears, below and before the brain.

    They lie beyond one of the planes that the convex hull of the brain's sagittal profile turns to the face, as in
    Quickshear (Schimke and Hale, USENIX HealthSec 2011), but for all such planes and not the first, and 12 mm from
    the brain. The profile is that of the MNI template, carried to the scan.

    Args:
        head: From `find_head`.
        grid: The scan's grid.

    Returns:
        ``(z, y, x)`` bool.
    """
    matrix = head.to_template @ grid.affine
    region = np.empty(grid.shape, bool)
    rows, columns = np.meshgrid(np.arange(grid.shape[1]), np.arange(grid.shape[2]), indexing="ij")
    for index in range(grid.shape[0]):  # slice by slice, which takes little memory
        y, z = (row[0] * columns + row[1] * rows + row[2] * index + row[3] for row in (matrix[1], matrix[2]))
        region[index] = (y > _BACK) & np.any([a * y + b * z > c + _BUFFER for a, b, c in _planes()], axis=0)
    return region


def has_face(array: np.ndarray, grid: Grid, head: Head) -> bool:
    """Whether eyes, nose and cheeks are in a scan, so that its skin shows them when it is rendered.

    Args:
        array: ``(z, y, x)``.
        grid: Its grid.
        head: From `find_head`.
    """
    axes = (np.arange(low, high, 4.0) for low, high in _FRONT)
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    matrix = np.linalg.inv(head.to_template @ grid.affine)
    at = (matrix[:3, :3] @ points + matrix[:3, 3:])[::-1]
    inside = np.all((at >= 0) & (at <= np.array(grid.shape)[:, None] - 1), axis=0)
    if inside.mean() < _SEEN:
        return False
    values = ndimage.map_coordinates(array, at[:, inside], order=1, output=np.float32)
    return bool((values > head.air).mean() > _TISSUE)


def shows_face(path: Path) -> bool:
    """Whether a face can be rendered from a scan's skin.

    Args:
        path: An image file, or one of a DICOM series; untrusted.

    Raises:
        UserError: If it cannot be read.
    """
    header = read_header(path)
    if not may_hold_head(header.grid):
        return False
    array = read_voxels(path, header, None)[0]
    head = find_head(array, header.grid)
    return head is not None and has_face(array, header.grid, head)


def without_face(array: np.ndarray, grid: Grid, head: Head) -> np.ndarray:
    """Replace a face by air, the least value of its channel.

    Args:
        array: ``(channel, z, y, x)``; left unchanged.
        grid: Its grid.
        head: From `find_head`.

    Returns:
        A copy.
    """
    region = face_region(head, grid)
    changed = array.copy()
    for channel in changed:
        channel[region] = channel.min()
    return changed


@lru_cache(1)
def _planes() -> tuple[tuple[float, float, float], ...]:
    """Of the template's brain: outward normals along y and z with the distance, in MNI mm."""
    image, affine = brain_map("t1", "A face")
    profile = ndimage.binary_fill_holes(image.any(axis=0))
    points = np.argwhere(profile) + affine[1:3, 3]
    hull = ConvexHull(points)
    forward, up, _ = hull.equations.T
    angle = np.degrees(np.arctan2(forward, -up))
    return tuple(
        (float(a), float(b), -float(c))
        for a, b, c in hull.equations[(forward > 0) & (up < 0) & (angle <= _STEEPEST) & (angle > 5)]
    )
