"""Random pairs of masks of all the kinds that metrics meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from segment.metrics.pair import StructurePair


class MaskPair(NamedTuple):
    seed: int
    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, ...]
    tolerance: float

    def structure(self) -> StructurePair:
        """The pair as metrics see it."""
        return StructurePair.of_masks(self.prediction, self.reference, self.spacing)


def noise(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.random(shape) < random.uniform(0.05, 0.95)


def blob(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    field = gaussian_filter(random.random(shape), random.uniform(0.8, 2.5))
    return field > np.quantile(field, random.uniform(0.2, 0.9))


def voxel(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(random.integers(0, shape))] = True
    return mask


def full(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, bool)


def box_at_the_border(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(0, int(random.integers(1, size + 1))) for size in shape)] = True
    return np.flip(mask, int(random.integers(0, len(shape))))


KINDS = (noise, blob, blob, voxel, full, box_at_the_border)


def mask_pairs(count: int) -> Iterator[MaskPair]:
    """Pairs in 2D and 3D, neither mask empty, spacing up to 10:1; the second may be a changed copy of the first."""
    for seed in range(count):
        random = np.random.default_rng(seed)
        shape = tuple(int(size) for size in random.integers(2, 15, 3 - seed % 2))
        spacing = tuple(float(side) for side in 10 ** random.uniform(-0.5, 0.5, len(shape)))
        first, second = (KINDS[int(random.integers(len(KINDS)))](random, shape) for _ in range(2))
        if random.random() < 0.3:
            second = np.roll(first, 1, axis=0) ^ (random.random(shape) < 0.03)
        for mask in (first, second):
            mask.flat[int(random.integers(mask.size))] |= not mask.any()
        yield MaskPair(seed, first, second, spacing, float(random.uniform(0, 4)))
