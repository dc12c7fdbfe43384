"""Heads in scans: a model of the head around the MNI template of the brain, registered to a scan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import nibabel as nib
import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation
from skimage.filters import threshold_otsu

from segment.io.geometry import Grid, canonical_grid, to_canonical
from segment.io.template import brain_map

LEAST_LIKENESS, LEAST_STRUCTURE = 0.65, 0.03
_STEP = 4  # mm of the images that are registered
_PAD = 32  # mm around the template
_SHELLS = ((0.0, 2.0), (2.0, 6.0), (7.0, 12.0), (16.0, 25.0))  # mm from the brain: fluid, skull, skin and air
_FACE_BEGINS, _ENDS = -20.0, -66.0  # MNI mm; below, skull and skin are not compared, and nothing is
_BRAIN, _INNER, _AIR = 3, 5, 7  # the last tissue of the brain; the skull; air
_CENTRE = np.array([0.0, -18.0, 4.0])  # of the brain, MNI mm
_BELOW_TOP = 92.0  # mm from the top of the head to this centre
_LEAST = 60.0  # mm of a scan of a head, along each axis
_SCALES = (0.7, 1.4)  # of a head to the template's


@dataclass(frozen=True, eq=False)
class Head:
    """Where a head lies in a scan.

    Attributes:
        to_template: ``(4, 4)``, from RAS+ mm of the scan to mm of the MNI template.
        likeness: Correlation ratio of the scan given the model's tissues, 0 to 1.
        air: Values up to this one are as dark as air: a quarter of the way from air to brain.
        t1: Whether its contrast is that of T1: white matter brighter than grey, and grey than fluid. The place of heads
            of other contrasts is not exact.
    """

    to_template: np.ndarray
    likeness: float
    air: float
    t1: bool


def may_hold_head(grid: Grid) -> bool:
    """Whether a scan is large enough for a head, along each axis."""
    extents = np.array(grid.spacing) * grid.shape
    return grid.ndim == 3 and min(grid.shape) >= 8 and bool(extents.min() >= _LEAST)


def find_head(array: np.ndarray, grid: Grid) -> Head | None:
    """Find a head by registering a model of it, affinely, by the correlation ratio (Roche et al., MICCAI 1998).

    The model's tissues are those of the template's brain, and shells of fluid, skull, skin and air around it. The ratio
    is the share of the scan's variance that the tissues explain, whatever the contrast.

    Args:
        array: ``(z, y, x)``.
        grid: Its grid; its orientation must be right.

    Returns:
        The head; None if the scan is too small, or nothing in it resembles one: the ratio is less than
        `LEAST_LIKENESS`, or that of the tissues of the brain alone less than `LEAST_STRUCTURE`.
    """
    if not may_hold_head(grid):
        return None
    scan = _coarse(array, grid)
    if scan.voxels.min() == scan.voxels.max():
        return None
    top = _top(scan)
    if top is None:
        return None
    points, tissues = _model()
    few, more = (slice(None, None, step) for step in (20, 8))
    parameters = _search(scan, top, points[few], tissues[few])
    for chosen, count in ((few, 7), (more, 12)):
        parameters = _fit(scan, points[chosen], tissues[chosen], parameters, count)
    brain = tissues <= _BRAIN
    likeness = _ratio(scan, points, tissues, parameters)
    structure = _ratio(scan, points[brain], tissues[brain], parameters)
    matrix = _matrix(parameters)
    scales = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if likeness < LEAST_LIKENESS or structure < LEAST_STRUCTURE:
        return None
    if scales.min() < _SCALES[0] or scales.max() > _SCALES[1]:
        return None
    dark, bright = (float(_values(scan, points[chosen], parameters)[0].mean()) for chosen in (tissues == _AIR, brain))
    inner, inside = _values(scan, points[brain], parameters)
    fluid, grey, white = (inner[tissues[brain][inside] == kind].mean() for kind in (1, 2, 3))
    return Head(np.linalg.inv(matrix), likeness, dark + (bright - dark) / 4, bool(white > grey > fluid))


@dataclass(frozen=True, eq=False)
class _Scan:
    """A scan at about 4 mm: voxels (x, y, z) along the body's axes, and RAS+ mm to voxels."""

    voxels: np.ndarray
    affine: np.ndarray
    inverse: np.ndarray


def _coarse(array: np.ndarray, grid: Grid) -> _Scan:
    voxels, placed = to_canonical(array[None], grid)[0].T, canonical_grid(grid)
    factors = [max(1, round(_STEP / size)) for size in placed.spacing[::-1]]
    kept = voxels[tuple(slice(0, size // factor * factor) for size, factor in zip(voxels.shape, factors, strict=True))]
    for axis, factor in enumerate(factors):
        shape = [*kept.shape[:axis], kept.shape[axis] // factor, factor, *kept.shape[axis + 1 :]]
        kept = kept.reshape(shape).mean(axis + 1, dtype=np.float32)
    affine = placed.affine @ nib.affines.from_matvec(np.diag(factors), (np.array(factors) - 1) / 2)
    kept = np.nan_to_num(kept, posinf=0, neginf=0)
    return _Scan(kept, affine, np.linalg.inv(affine))


@lru_cache(1)
def _model() -> tuple[np.ndarray, np.ndarray]:
    """Points of the head in MNI mm ``(3, n)``, and their tissues: 1 to 3 of the brain, fluid, skull, skin, air."""
    parts = {}
    for part in ("t1", "gm", "wm"):
        whole, affine = brain_map(part, "A face")
        padded = np.pad(whole, _PAD)[tuple(slice(0, (size + 2 * _PAD) // _STEP * _STEP) for size in whole.shape)]
        parts[part] = padded.reshape([n for size in padded.shape for n in (size // _STEP, _STEP)]).mean((1, 3, 5))
    coarse = affine @ nib.affines.from_matvec(np.eye(3) * _STEP, np.full(3, (_STEP - 1) / 2 - _PAD))
    brain = ndimage.binary_fill_holes(parts["t1"] > 60)
    tissues = np.where(parts["wm"] > parts["gm"], 3, np.where(parts["gm"] > 100, 2, 1))
    away = ndimage.distance_transform_edt(~brain) * _STEP
    tissues[~brain] = 0
    for number, (first, last) in enumerate(_SHELLS, start=4):
        tissues[~brain & (away > first) & (away <= last)] = number
    voxels = np.indices(brain.shape).reshape(3, -1)
    points = coarse[:3, :3] @ voxels + coarse[:3, 3:]
    tissues = tissues.ravel()
    kept = (tissues > 0) & (points[2] > _ENDS) & ((tissues < _INNER) | (points[2] > _FACE_BEGINS))
    return points[:, kept].T, tissues[kept]


def _top(scan: _Scan) -> np.ndarray | None:
    """The middle of the uppermost part of what is not air, at its top: RAS+ mm; None if there is too little."""
    labelled, _ = ndimage.label(scan.voxels > threshold_otsu(scan.voxels))
    largest = labelled == 1 + np.bincount(labelled.ravel())[1:].argmax()
    points = np.argwhere(largest) @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    if len(points) < 1000:
        return None
    top = np.percentile(points[:, 2], 99.8)
    upper = points[points[:, 2] > top - _BELOW_TOP]
    return np.array([*(upper[:, :2].min(0) + upper[:, :2].max(0)) / 2, top])


def _matrix(parameters: np.ndarray) -> np.ndarray:
    """``(4, 4)`` from MNI mm to mm of the scan: of shift (cm), turn and scale (tenths), and shear (tenths)."""
    shift, turn = parameters[:3] * 10, parameters[3:6] / 10
    scale = np.exp(parameters[6] / 10 + np.append(parameters[7:9], -parameters[7:9].sum()) / 10)
    shear = np.eye(3)
    shear[[0, 0, 1], [1, 2, 2]] = parameters[9:] / 10
    linear = Rotation.from_rotvec(turn).as_matrix() @ shear * scale
    return nib.affines.from_matvec(linear, shift + _CENTRE - linear @ _CENTRE)


def _values(scan: _Scan, points: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The scan's values at points that lie in it, and which do."""
    whole = scan.inverse @ _matrix(parameters)
    at = whole[:3, :3] @ points.T + whole[:3, 3:]
    inside = np.all((at > -0.5) & (at < np.array(scan.voxels.shape)[:, None] - 0.5), axis=0)
    values = ndimage.map_coordinates(scan.voxels, at[:, inside], order=1, mode="nearest")
    return values.astype(np.float64), inside


def _ratio(scan: _Scan, points: np.ndarray, tissues: np.ndarray, parameters: np.ndarray) -> float:
    """Correlation ratio of the scan given the tissues; 0 where half of the head or more is outside of the scan."""
    values, inside = _values(scan, points, parameters)
    if inside.mean() <= 0.5:
        return 0.0
    kinds = tissues[inside]
    counts, sums = np.bincount(kinds), np.bincount(kinds, values)
    total = ((values - values.mean()) ** 2).sum()
    between = (sums**2 / np.maximum(counts, 1)).sum() - values.sum() ** 2 / len(values)
    return float(between / total * inside.mean()) if total > 0 else 0.0


def _search(scan: _Scan, top: np.ndarray, points: np.ndarray, tissues: np.ndarray) -> np.ndarray:
    """The best of many positions and pitches of the head."""
    best = (-1.0, np.zeros(12))
    for height in (-40, -25, -10, 5, 20):
        for forward in (-30, -15, 0, 15):
            for pitch in (-0.5, -0.25, 0, 0.25, 0.5):
                for size in (-1, 0):
                    parameters = np.zeros(12)
                    parameters[:3] = (top + np.array([0, forward, -_BELOW_TOP - height]) - _CENTRE) / 10
                    parameters[3], parameters[6] = pitch * 10, size
                    found = _ratio(scan, points, tissues, parameters)
                    best = max(best, (found, parameters), key=lambda item: item[0])
    return best[1]


def _fit(scan: _Scan, points: np.ndarray, tissues: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """Improve the first parameters by Powell's method."""

    def cost(changed: np.ndarray) -> float:
        return -_ratio(scan, points, tissues, np.concatenate([changed, start[count:]]))

    found = optimize.minimize(cost, start[:count], method="Powell", options={"xtol": 0.01, "ftol": 1e-4, "maxiter": 8})
    return np.concatenate([found.x, start[count:]])
