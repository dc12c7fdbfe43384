"""Voxel positions in the body: voxel grids, their comparison, and reorientation to anatomical axes and back."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np

CANONICAL = np.array([[0, 1], [1, 1], [2, 1]], dtype=float)


@dataclass(frozen=True, eq=False)
class Grid:
    """The voxel grid of a scan.

    Attributes:
        shape: Voxels along each spatial axis in array order: ``(z, y, x)``, or ``(y, x)`` for a 2D image.
        affine: ``(4, 4)`` float64, from voxel index ``(x, y, z, 1)`` to RAS+ millimetres (nibabel's convention).
        assumed: Whether the file gives no voxel size, so that 1 mm is assumed.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    assumed: bool = False

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in mm in array order: ``(sz, sy, sx)`` or ``(sy, sx)``."""
        norms = np.linalg.norm(self.affine[:3, : self.ndim], axis=0)
        return tuple(float(value) for value in norms[::-1])

    @property
    def placed(self) -> bool:
        """Whether it lies anywhere else than with its first voxel at the origin and its axes along the body's."""
        return bool(self.affine[:3, 3].any()) or not np.allclose(self.direction, np.eye(3))

    @property
    def direction(self) -> np.ndarray:
        """``(3, 3)`` unit vectors of the voxel axes x, y, z (columns) in RAS+."""
        matrix = self.affine[:3, :3]
        return matrix / np.linalg.norm(matrix, axis=0)


def _format_numbers(values: object) -> str:
    """Format numbers briefly: four significant digits, no numpy type names."""
    return "(" + ", ".join(f"{value:.4g}" for value in np.ravel(np.asarray(values, dtype=float))) + ")"


def _corners(grid: Grid) -> np.ndarray:
    """RAS+ positions of the grid's outermost voxel centres, ``(2 ** ndim, 3)``."""
    last = np.array(grid.shape[::-1]) - 1
    picks = np.stack(np.meshgrid(*[[0, 1]] * grid.ndim, indexing="ij"), axis=-1).reshape(-1, grid.ndim)
    return (picks * last) @ grid.affine[:3, : grid.ndim].T + grid.affine[:3, 3]


def largest_distance(a: Grid, b: Grid) -> float:
    """Maximum distance between corresponding voxels of two grids.

    Args:
        a: One grid.
        b: The other, of the same shape.

    Returns:
        Millimetres.
    """
    return float(np.linalg.norm(_corners(a) - _corners(b), axis=1).max())


def grid_difference(a: Grid, b: Grid, tolerance: float = 0.01) -> str:
    """Describe how two grids differ.

    A grid of assumed voxel size is the same as any of its shape that has a voxel size but no position in the body, so
    that a micrograph with its pixel size matches its mask in a file without.

    Args:
        a: One grid.
        b: The other.
        tolerance: Maximum distance between corresponding voxels that still counts as the same grid, as a fraction of
            the smallest voxel size. Files of one scan written by two programs differ by about 1e-5.

    Returns:
        An empty string if the grids are the same; otherwise the differing properties with their values (mm, array order
        for shape and spacing, RAS+ for origin and direction), ``a`` first.
    """
    if a.shape != b.shape:
        return f"shape {a.shape} versus {b.shape}"
    if (a.assumed or b.assumed) and not (a.placed or b.placed):
        return ""
    distance = largest_distance(a, b)
    if distance <= tolerance * min(*a.spacing, *b.spacing):
        return ""
    parts = []
    if not np.allclose(a.spacing, b.spacing, rtol=1e-4):
        parts.append(f"spacing {_format_numbers(a.spacing)} versus {_format_numbers(b.spacing)} mm")
    if not np.allclose(a.affine[:3, 3], b.affine[:3, 3], atol=1e-3):
        parts.append(f"origin {_format_numbers(a.affine[:3, 3])} versus {_format_numbers(b.affine[:3, 3])} mm")
    if not np.allclose(a.direction, b.direction, atol=1e-4):
        parts.append(f"direction {_format_numbers(a.direction)} versus {_format_numbers(b.direction)}")
    parts.append(f"voxels up to {distance:.3g} mm apart")
    return ", ".join(parts)


def to_canonical(array: np.ndarray, grid: Grid) -> np.ndarray:
    """Permute and flip the spatial axes: z inferior to superior, y posterior to anterior, x left to right.

    Each voxel axis is assigned to the nearest anatomical axis; nothing is interpolated. 2D images are returned
    unchanged.

    Args:
        array: ``(..., z, y, x)`` on ``grid``; leading axes (channels) stay in place.
        grid: The grid of the array.

    Returns:
        The same values, C-contiguous, in anatomical axis order.

    Raises:
        ValueError: If the last axes do not have the grid's shape.
    """
    view = canonical_view(array, grid)
    return view if grid.ndim == 2 else np.ascontiguousarray(view)


def canonical_view(array: np.ndarray, grid: Grid) -> np.ndarray:
    """The result of `to_canonical` as a view, so that what is written to it is written to the array.

    Raises:
        ValueError: If the last axes do not have the grid's shape.
    """
    _require_shape(array, grid.shape)
    if grid.ndim == 2:
        return array
    # nibabel reorients the first axes in x, y, z order; transposing moves ours there, channels last.
    view: np.ndarray = nib.orientations.apply_orientation(array.T, nib.orientations.io_orientation(grid.affine)).T
    return view


def from_canonical(array: np.ndarray, grid: Grid) -> np.ndarray:
    """Undo `to_canonical`: back to the axes of the scan's own grid.

    Args:
        array: ``(..., z, y, x)`` in anatomical axis order.
        grid: The scan's own grid (not the canonical one).

    Returns:
        The same values, C-contiguous, with the last axes shaped as ``grid.shape``.

    Raises:
        ValueError: If the shape is not that of `to_canonical` for this grid.
    """
    if grid.ndim == 2:
        _require_shape(array, grid.shape)
        return array
    _require_shape(array, canonical_grid(grid).shape)
    back = nib.orientations.ornt_transform(CANONICAL, nib.orientations.io_orientation(grid.affine))
    return np.ascontiguousarray(nib.orientations.apply_orientation(array.T, back).T)


def canonical_grid(grid: Grid) -> Grid:
    """The grid of an array after `to_canonical`: same voxels, axes permuted and flipped.

    Args:
        grid: The scan's own grid.

    Returns:
        The grid in anatomical axis order; ``grid`` itself if it is 2D.
    """
    if grid.ndim == 2:
        return grid
    ornt = nib.orientations.io_orientation(grid.affine)
    shape = grid.shape[::-1]
    order = np.argsort(ornt[:, 0])
    affine = grid.affine @ nib.orientations.inv_ornt_aff(ornt, shape)
    return Grid(tuple(int(shape[axis]) for axis in order)[::-1], affine)


def same_voxels(a: Grid, b: Grid) -> bool:
    """Whether two grids have the same voxels in the body, whatever the order and direction of their axes.

    Args:
        a: One grid.
        b: The other.
    """
    return a.ndim == b.ndim and not grid_difference(canonical_grid(a), canonical_grid(b))


def canonical_spacing(grid: Grid) -> tuple[float, ...]:
    """Voxel size in mm along the anatomical axes.

    Args:
        grid: The scan's own grid.

    Returns:
        ``(sz, sy, sx)`` of the array that `to_canonical` returns; ``(sy, sx)`` for a 2D image.
    """
    return canonical_grid(grid).spacing


def _require_shape(array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape[-len(shape) :] != shape:
        raise ValueError(f"array of shape {array.shape} does not end in the grid's shape {shape}")
