"""One structure in both masks of a scan, and what its metrics share: everything is computed once, when first needed."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from segment.metrics.boundary import boundary, directed_distances
from segment.metrics.metric import Counts, Metric
from segment.metrics.surface_elements import element_areas, neighbour_codes

T = TypeVar("T")


class computed_once(Generic[T]):
    """``functools.cached_property`` without a lock: until Python 3.12, threads wait there for all other instances."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type) -> T:
        """Compute the value; the next access finds it in the instance itself."""
        value = self.compute(instance)
        instance.__dict__[self.compute.__name__] = value
        return value


@dataclass(frozen=True)
class Surface:
    """Surface elements of one mask.

    Attributes:
        distances: Distance in mm of every element to the nearest of the other mask, float64 (element,).
        areas: Its area in mm2; in 2D its length in mm.
    """

    distances: np.ndarray
    areas: np.ndarray


@dataclass(frozen=True)
class StructurePair:
    """A structure in the prediction and in the reference, cropped to the box that holds both.

    Attributes:
        prediction: Boolean ``(*spatial)``, read-only.
        reference: Boolean of the same shape, read-only.
        spacing: Voxel size in mm in array order.
        counts: Voxels of the structure, and of the whole scan.
        tolerance: Distance in mm that counts as agreement, where the data set states one for this structure.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing: tuple[float, ...]
    counts: Counts
    tolerance: float | None = None

    @classmethod
    def of_masks(cls, prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> StructurePair:
        """The pair of two boolean masks of a whole scan."""
        box = bounding_box(prediction, reference)
        return cls(prediction[box], reference[box], tuple(spacing), Counts.of_masks(prediction, reference))

    def shared(self, compute: Callable[[StructurePair], T]) -> T:
        """What a function makes of this pair; computed once for all metrics that ask for it."""
        found: dict[Callable[[StructurePair], Any], Any] = self.__dict__.setdefault("_shared", {})
        if compute not in found:
            found[compute] = compute(self)
        value: T = found[compute]
        return value

    @computed_once
    def boundaries(self) -> tuple[np.ndarray, np.ndarray]:
        """Boundary voxels of prediction and reference, see `segment.metrics.boundary.boundary`."""
        return boundary(self.prediction), boundary(self.reference)

    @computed_once
    def boundary_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances in mm from every boundary voxel of the prediction to the nearest of the reference, and back."""
        first, second = self.boundaries
        return directed_distances(first, second, self.spacing)

    @computed_once
    def surfaces(self) -> tuple[Surface, Surface]:
        """Surface elements of prediction and reference, see `segment.metrics.surface_elements`."""
        areas = element_areas(self.spacing)
        codes = [neighbour_codes(mask) for mask in (self.prediction, self.reference)]
        lattices = [(code != 0) & (code != len(areas) - 1) for code in codes]
        distances = directed_distances(lattices[0], lattices[1], self.spacing)
        first, second = (
            Surface(distance, areas[code[lattice]])
            for distance, code, lattice in zip(distances, codes, lattices, strict=True)
        )
        return first, second


class PairMetric(Metric):
    """A metric of what `StructurePair` offers, which all metrics of a structure share."""

    needs_spacing = True
    costly = True

    @abstractmethod
    def of_pair(self, pair: StructurePair) -> float:
        """Score a structure that is in both masks; a finite number."""

    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> float:
        """Crop the masks to the structure and score it."""
        return self.of_pair(StructurePair.of_masks(prediction, reference, spacing))


def bounding_box(*masks: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds every voxel which any mask has set; empty slices if there is none.

    Args:
        masks: Boolean or integer ``(*spatial)``, all of one shape.
    """
    box = []
    for occupied in zip(*map(_occupied, masks), strict=True):
        planes = np.flatnonzero(functools.reduce(np.bitwise_or, occupied))
        box.append(slice(int(planes[0]), int(planes[-1]) + 1) if len(planes) else slice(0, 0))
    return tuple(box)


def _occupied(mask: np.ndarray) -> list[np.ndarray]:
    """For every axis, which planes across it have a voxel set: non-zero there."""
    along = np.bitwise_or.reduce(mask, axis=tuple(range(1, mask.ndim))) if mask.ndim > 1 else mask
    return [along != 0] + (_occupied(np.bitwise_or.reduce(mask, axis=0)) if mask.ndim > 1 else [])


def enclosing(boxes: Iterable[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box that holds all of several."""
    sides = zip(*boxes, strict=True)
    return tuple(slice(min(part.start for part in side), max(part.stop for part in side)) for side in sides)
