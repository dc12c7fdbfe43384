"""Spatial augmentation, part 1: draw the parameters, and find which voxels of the scan are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segment.augment.counter import generator
from segment.errors import UserError

FLAT = 3  # nnU-Net's ANISO_THRESHOLD: a patch this many times longer than its first axis is moved in plane only
ELONGATED = 1.5  # nnU-Net rotates a flat patch longer than this by 15 degrees at most
ROUNDING = 1e-4  # voxels; the error of positions, which count as inside within this distance
MAX_EXTENT = 2.2  # of a source box relative to its patch, along an axis
MAX_STRENGTH = 0.4  # of the distance of control points; smaller displacements cannot fold (Choi and Lee 2000)


@dataclass(frozen=True)
class Motion:
    """How one sample is moved; `axes` equals those of the patch, or one fewer where it is moved in plane only.

    Attributes:
        angles: 1 (in plane) or 3 angles in radians.
        scale: Factor on the field of view, one per moving axis; above 1 shows more, so structures get smaller.
        elastic_spacing: Distance of the control points as a fraction of the patch's longest side; 0 for none.
        elastic_strength: Largest displacement of a control point as a fraction of that distance.
    """

    angles: tuple[float, ...]
    scale: tuple[float, ...]
    elastic_spacing: float = 0.0
    elastic_strength: float = 0.0

    @property
    def axes(self) -> int:
        """Number of axes that move, the last ones of the patch."""
        return len(self.scale)

    def matrix(self, spacing: Sequence[float]) -> np.ndarray:
        """Matrix from a voxel of the patch to its source, both relative to the centre: source = matrix @ voxel.

        The rotation is rigid in millimetres even where voxels are not cubes.

        Args:
            spacing: Voxel size in mm of the patch, one per axis, array order.

        Returns:
            (axes, axes) in array order, in voxels.
        """
        mm = np.asarray(spacing, float)[-self.axes :]
        return rotation_matrix(self.angles) * mm[None, :] / mm[:, None] * np.asarray(self.scale)[None, :]

    def words(self) -> list[str]:
        """Describe what was drawn, for a caption: one phrase for each kind of motion."""
        found = []
        if any(self.angles):
            found.append("rotated " + " ".join(f"{round(math.degrees(angle))}\N{DEGREE SIGN}" for angle in self.angles))
        if any(factor != 1 for factor in self.scale):
            factors = self.scale if len(set(self.scale)) > 1 else self.scale[:1]
            found.append("field of view " + " ".join(f"{factor:.2f}" for factor in factors))
        if self.elastic_spacing * self.elastic_strength:
            found.append(f"elastic {self.elastic_spacing:.2f} x {self.elastic_strength:.2f}")
        return found


@dataclass(frozen=True)
class Spatial:
    """Probabilities and ranges of rotation, scale and elastic deformation, which are applied in one resampling.

    Attributes:
        rotation_probability: Probability of a rotation.
        rotation: Largest angle about each axis in degrees; ``auto``: nnU-Net's, 30 in 3D, 180 in plane, 15 for flat
            patches longer than 1.5 times their width.
        rotation_axis_probability: Probability of each axis to take part in a rotation.
        scale_probability: Probability of scaling.
        scale: Range of the factor on the field of view; above 1 shows more, so structures get smaller.
        scale_axes_together: Whether all axes have the same factor.
        elastic_probability: Probability of a free-form deformation by cubic B-splines (Rueckert et al. 1999).
        elastic_spacing: Range of the distance of its control points, as a fraction of the patch's longest side in mm.
        elastic_strength: Range of the largest displacement, as a fraction of that distance; at most 0.4, so that
            nothing can fold (Choi and Lee 2000).
    """

    rotation_probability: float = 0.0
    rotation: float | str = "auto"
    rotation_axis_probability: float = 1.0
    scale_probability: float = 0.0
    scale: Sequence[float] = (1.0, 1.0)
    scale_axes_together: bool = True
    elastic_probability: float = 0.0
    elastic_spacing: Sequence[float] = (0.2, 0.5)
    elastic_strength: Sequence[float] = (0.0, 0.25)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: When a value is out of range; names the key.
        """
        for key in ("rotation_probability", "rotation_axis_probability", "scale_probability", "elastic_probability"):
            check_probability(f"augment.spatial.{key}", getattr(self, key))
        if self.rotation != "auto" and not isinstance(self.rotation, int | float):
            raise UserError(f"augment.spatial.rotation={self.rotation}: give degrees, or auto for nnU-Net's.")
        check_range("augment.spatial.scale", self.scale, 0.2, 5.0)
        check_range("augment.spatial.elastic_spacing", self.elastic_spacing, 0.05, 1.0)
        check_range("augment.spatial.elastic_strength", self.elastic_strength, 0.0, MAX_STRENGTH)

    def draw(self, seed: int, sample: int, patch_size: Sequence[int], in_plane: bool) -> Motion | None:
        """Draw the motion of a sample, a function of the arguments; None where it is not moved.

        Args:
            seed: The run's seed.
            sample: The sample's number.
            patch_size: Voxels per axis.
            in_plane: Whether the first axis of a 3D patch is left unchanged.
        """
        axes = len(patch_size) - in_plane
        rotate, scale, deform = (
            generator(seed, sample, f"augment {name}") for name in ("rotation", "scale", "elastic")
        )
        rotated, scaled, deformed = (
            random.random() < probability
            for random, probability in (
                (rotate, self.rotation_probability),
                (scale, self.scale_probability),
                (deform, self.elastic_probability),
            )
        )
        if not (rotated or scaled or deformed):
            return None
        # Always three of each, so that the number of dimensions does not shift the numbers.
        largest = math.radians(self._max_rotation(patch_size, in_plane))
        angles = rotate.uniform(-largest, largest, 3) * (rotate.random(3) < self.rotation_axis_probability) * rotated
        scales = scale.uniform(self.scale[0], self.scale[1], 3) if scaled else np.ones(3)
        return Motion(
            tuple(angles.tolist()[: 1 if axes == 2 else 3]),
            tuple((np.full(3, scales[0]) if self.scale_axes_together else scales).tolist()[:axes]),
            float(deform.uniform(self.elastic_spacing[0], self.elastic_spacing[1])) if deformed else 0.0,
            float(deform.uniform(self.elastic_strength[0], self.elastic_strength[1])) if deformed else 0.0,
        )

    def _max_rotation(self, patch_size: Sequence[int], in_plane: bool) -> float:
        if self.rotation != "auto":
            return float(self.rotation)
        if len(patch_size) == 2:
            return 15 if max(patch_size) > ELONGATED * min(patch_size) else 180
        return 180 if in_plane else 30


def moves_in_plane(patch_size: Sequence[int], dummy_2d: bool | str) -> bool:
    """Whether a patch is moved without its first axis: nnU-Net's dummy 2D augmentation of thick slices.

    Args:
        patch_size: Voxels per axis.
        dummy_2d: True or False, or ``auto``: where the longest axis is more than 3 times the first.

    Raises:
        UserError: When dummy_2d is something else.
    """
    if dummy_2d not in (True, False, "auto"):
        raise UserError(f"augment.dummy_2d={dummy_2d}: give auto, true or false.")
    if len(patch_size) != 3:
        return False
    return max(patch_size) > FLAT * patch_size[0] if dummy_2d == "auto" else bool(dummy_2d)


def source_extent(motion: Motion, patch_size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
    """Size in voxels of the box that a motion takes its values from, with the same centre as the patch.

    Args:
        motion: How the sample is moved.
        patch_size: Voxels per axis.
        spacing: Voxel size in mm, one per axis.

    Returns:
        One number per axis, the patch's size or larger by an even number, at most 2.2 times as large.
    """
    fixed, size = tuple(patch_size[: -motion.axes]), np.asarray(patch_size[-motion.axes :])
    mm = np.asarray(spacing, float)[-motion.axes :]
    reach = (size - 1) / 2 + motion.elastic_spacing * motion.elastic_strength * (size * mm).max() / mm
    half = np.abs(motion.matrix(spacing)) @ reach
    more = np.ceil(half - (size - 1) / 2 - ROUNDING).clip(0, (MAX_EXTENT - 1) * size // 2)
    return fixed + tuple(int(n + 2 * m) for n, m in zip(size, more, strict=True))


def rotation_matrix(angles: Sequence[float]) -> np.ndarray:
    """Matrix of rotations within each pair of axes, one after the other.

    Args:
        angles: One angle for 2 axes, three for 3, in radians.

    Returns:
        (axes, axes), acting on vectors in array order.
    """
    size = 2 if len(angles) == 1 else 3
    planes = [(0, 1)] if size == 2 else [(1, 2), (0, 2), (0, 1)]
    matrix = np.eye(size)
    for angle, (i, j) in zip(angles, planes, strict=True):
        step = np.eye(size)
        step[i, i] = step[j, j] = math.cos(angle)
        step[i, j], step[j, i] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ step
    return matrix


def spatial_axes(requested: str | Sequence[int], dims: int, key: str) -> list[int]:
    """The spatial axes (array order) that ``"all"`` or a list stands for.

    Args:
        requested: ``"all"`` or axis numbers from 0.
        dims: Spatial dimensions.
        key: The configuration key, for the error.

    Raises:
        UserError: When it is something else or an axis does not exist.
    """
    if requested == "all":
        return list(range(dims))
    if isinstance(requested, str) or not all(isinstance(axis, int) and 0 <= axis < dims for axis in requested):
        raise UserError(f"{key}={requested}: give all, or a list of axes from 0 to {dims - 1}; the scans are {dims}D.")
    return list(requested)


def check_probability(key: str, value: float) -> None:
    """Check that a value is a probability.

    Raises:
        UserError: When it is not; names the key.
    """
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UserError(f"{key}={value}: give a probability between 0 and 1.")


def check_range(key: str, value: Sequence[float], least: float, most: float) -> None:
    """Check that a value is a range within bounds, lower end first.

    Raises:
        UserError: When it is not; names the key.
    """
    numbers = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
    if not numbers or not least <= value[0] <= value[1] <= most:
        raise UserError(f"{key}={value}: give a range [low, high] between {least:g} and {most:g}.")
