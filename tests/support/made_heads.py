"""Made scans of whole heads around the MNI brain that nilearn carries: skin, skull, eyes, nose, jaw and neck."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import nibabel as nib
import numpy as np
from scipy import ndimage

from segment.data.synthetic.demo import _deform, brain_template
from segment.io.geometry import Grid

SIZE, STEP, ORIGIN = (60, 78, 72), 3.0, (-89.0, -125.0, -125.0)  # of the template: voxels, mm, RAS+ mm
EYES, NOSE = ((33.0, 66.0, -38.0), (-33.0, 66.0, -38.0)), (0.0, 101.0, -58.0)  # mm, as in MNI space


@dataclass(frozen=True)
class Head:
    """A made scan.

    Attributes:
        array: ``(z, y, x)`` int16.
        grid: Where it lies.
        brain, nose, eyes: Masks of its shape.
    """

    array: np.ndarray
    grid: Grid
    brain: np.ndarray
    nose: np.ndarray
    eyes: np.ndarray


def _distance(points: np.ndarray, centre, axes) -> np.ndarray:
    """1 at the surface of an ellipsoid."""
    return np.sqrt(sum(((p - c) / a) ** 2 for p, c, a in zip(points, centre, axes, strict=True)))


@lru_cache(1)
def _anatomy() -> tuple[np.ndarray, ...]:
    """Intensity, brain, nose and eyes, 0..1, axes x, y, z, 3 mm."""
    template = brain_template()
    points = np.stack(np.meshgrid(*(np.arange(n) * STEP + o for n, o in zip(SIZE, ORIGIN, strict=True)), indexing="ij"))
    inverse = np.linalg.inv(template.affine)
    at = np.tensordot(inverse[:3, :3], points, 1) + inverse[:3, 3].reshape(3, 1, 1, 1)
    t1, brain = (ndimage.map_coordinates(part, at, order=1) for part in template.maps[:2])
    from_brain = ndimage.distance_transform_edt(brain < 0.5) * STEP
    x, y, z = points
    jaw = (_distance(points, (0, 22, -75), (62, 68, 55)) < 1) & (y > -25)
    neck = (np.hypot(x / 58, (y + 30) / 62) < 1) & (z < -50)
    nose = (np.hypot(x / 15, (z + 58) / 22) < 1 - (y - 84) / 26) & (y > 60) & (y < 110)
    brow = _distance(points, (0, 40, -35), (64, 49, 28)) < 1
    head = (from_brain < 13) & (z > -85) | jaw | neck | nose | brow
    texture = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=SIZE), 2)
    image = np.where(head, np.clip(0.45 + 2 * texture, 0.15, 0.95), 0.0)
    inside = ndimage.distance_transform_edt(head) * STEP
    image[head & (inside < 5)] = 0.85  # fat under the skin
    image[head & (inside < 1.5)] = 0.4
    image[(from_brain < 7) & (z > -65)] = 0.06  # the skull
    image[_distance(points, (0, 62, -72), (18, 16, 24)) < 1] = 0.02  # air of nose and mouth
    for eye in EYES:
        image[_distance(points, eye, (13, 13, 13)) < 1] = 0.6
        image[_distance(points, eye, (11, 11, 11)) < 1] = 0.12
    image[from_brain < 2] = 0.12  # fluid
    image = image * (1 - brain) + t1 * brain
    eyes = np.logical_or.reduce([_distance(points, eye, (11, 11, 11)) < 1 for eye in EYES])
    return ndimage.gaussian_filter(image, 0.5), brain, (nose & (y > 88)).astype(float), eyes.astype(float)


def make_head(codes="RAS", spacing=(3.0, 3.0, 3.0), seed=0, tilt=(0.1, 0.05, -0.08), contrast=lambda t1: t1) -> Head:
    """Make a scan of a head that differs from the template: in size, shape and position.

    Args:
        codes: Directions of the axes x, y, z.
        spacing: mm along them.
        seed: Of shape, noise and bias.
        tilt: Rotation of the grid, in radians.
        contrast: From the intensities of T1, 0..1, to others.
    """
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    turn = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(codes), (1, 1, 1))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(tilt).as_matrix() @ turn * np.array(spacing)
    shape = np.ceil(np.abs(turn.T @ np.array([200.0, 250.0, 235.0])) / spacing).astype(int)
    affine[:3, 3] = np.array([0, -8, -20]) + rng.uniform(-8, 8, 3) - affine[:3, :3] @ ((shape - 1) / 2)
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(3, -1)
    places = _deform(rng, affine[:3, :3] @ voxels + affine[:3, 3:])
    at = (places - np.array(ORIGIN)[:, None]) / STEP
    image, brain, nose, eyes = (
        ndimage.map_coordinates(part, at, order=1, mode="constant").reshape(shape) for part in _anatomy()
    )
    bias = 1 + 0.15 * np.sin(voxels[0] / shape[0] * 2 + rng.uniform(0, 3)).reshape(shape)
    noisy = np.hypot(contrast(image) * bias + rng.normal(0, 0.02, shape), rng.normal(0, 0.02, shape))
    array = np.round(800 * noisy).astype(np.int16)
    return Head(array.T, Grid(array.T.shape, affine), *(part.T > 0.5 for part in (brain, nose, eyes)))
