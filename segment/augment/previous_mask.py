"""Augmentation of the first stage's mask in the second stage of a cascade: the errors that it must learn to correct."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segment.augment.counter import generator
from segment.augment.spatial import check_probability, check_range

MAX_RADIUS = 64.0  # voxels


@dataclass(frozen=True)
class PreviousMask:
    """Random morphological operators and missing components, with nnU-Net's probabilities.

    Isensee et al. 2021 (https://doi.org/10.1038/s41592-020-01008-z, supplement, "cascade"); the values are those of
    ``nnUNetTrainer.get_training_transforms`` of version 2.8.1, where they apply to one-hot channels.

    Attributes:
        operator_probability: Probability that every label is dilated, eroded, opened or closed by a ball, each by an
            operator and a radius of its own, in random order.
        radius: Range of the ball's radius in voxels.
        removal_probability: Probability that of every label one random component is removed.
        removal_below: Share of the patch, 0 to 1, below which a component may be removed.
    """

    operator_probability: float = 0.4
    radius: Sequence[float] = (1.0, 8.0)
    removal_probability: float = 0.2
    removal_below: float = 0.15

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: When a value is out of range; names the key.
        """
        for key in ("operator_probability", "removal_probability", "removal_below"):
            check_probability(f"augment.previous.{key}", getattr(self, key))
        check_range("augment.previous.radius", self.radius, 0.0, MAX_RADIUS)

    def __call__(self, mask: np.ndarray, seed: int, sample: int) -> np.ndarray:
        """Change the mask of one patch, a function of the arguments.

        Args:
            mask: (*patch) uint8 class indices; not changed.
            seed: The run's seed.
            sample: The sample's number.

        Returns:
            (*patch) uint8 class indices. A voxel that a label gains is taken from the others; one that it loses
            becomes background.
        """
        operators, removal = (generator(seed, sample, f"augment previous {name}") for name in ("operators", "removal"))
        present = np.flatnonzero(np.bincount(mask.ravel())[1:]) + 1
        changed = mask.copy()
        if operators.random() < self.operator_probability:
            for label in operators.permutation(present):
                operator = OPERATORS[operators.integers(len(OPERATORS))]
                _apply(operator, changed, label, float(operators.uniform(self.radius[0], self.radius[1])))
        if removal.random() < self.removal_probability:
            for label in removal.permutation(present):
                _remove(changed, label, self.removal_below * mask.size, removal)
        return changed


NNUNET = PreviousMask()


def dilated(mask: np.ndarray, radius: float) -> np.ndarray:
    """Voxels at most a radius (in voxels, Euclidean) away from those of a mask (*spatial) bool."""
    if not mask.any():
        return mask
    near: np.ndarray = ndimage.distance_transform_edt(~mask) <= radius
    return near


def eroded(mask: np.ndarray, radius: float) -> np.ndarray:
    """Voxels of a mask further than a radius from those outside it; beyond the array lies no voxel."""
    return ~dilated(~mask, radius)


def opened(mask: np.ndarray, radius: float) -> np.ndarray:
    """The dilation of the erosion."""
    return dilated(eroded(mask, radius), radius)


def closed(mask: np.ndarray, radius: float) -> np.ndarray:
    """The erosion of the dilation."""
    return eroded(dilated(mask, radius), radius)


OPERATORS: tuple[Callable[[np.ndarray, float], np.ndarray], ...] = (dilated, eroded, closed, opened)


def _apply(operator: Callable[[np.ndarray, float], np.ndarray], mask: np.ndarray, label: int, radius: float) -> None:
    """Apply an operator to a label of a mask in place; only the box that it can change is computed."""
    found = ndimage.find_objects((mask == label).view(np.uint8))
    if not found:
        return
    margin = math.ceil(radius) + 1
    box = tuple(slice(max(0, side.start - margin), side.stop + margin) for side in found[0])
    part = mask[box]
    before = part == label
    after = operator(before, radius)
    part[before & ~after] = 0
    part[after] = label


def _remove(mask: np.ndarray, label: int, below: float, random: np.random.Generator) -> None:
    """Remove a random component of a label, connected by faces, edges or corners, of fewer voxels than `below`."""
    components, count = ndimage.label(mask == label, np.ones((3,) * mask.ndim))
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    small = np.flatnonzero(sizes[1:] < below) + 1
    if small.size:
        mask[components == random.choice(small)] = 0
