"""What a metric is: how its numbers read, what a structure costs that only one mask holds, how one is scored."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DIAGONAL: Literal["diagonal"] = "diagonal"
"""Penalty of distances: the diagonal of the scan in mm, than which no distance within it is longer."""

Penalty = float | Literal["diagonal"]


@dataclass(frozen=True)
class MetricInfo:
    """How the numbers of a metric read: all that tables, pages and comparisons of finished runs know of it.

    Attributes:
        name: Column of ``scans.csv`` and last part of every tag, e.g. ``dice`` or ``hd95_mm``.
        title: What people call it, e.g. ``Dice``; says what its parameters are where they matter.
        unit: ``mm`` or the like; empty for a number without one.
        higher_is_better: Whether more of it is better.
        perfect: The best score.
        penalty: Score of a structure that only one of the two masks holds: a number, or ``DIAGONAL``.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = True
    perfect: float = 1.0
    penalty: Penalty = 0.0

    @property
    def heading(self) -> str:
        """Title and unit as they head a column: ``Dice``, ``HD95 (mm)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def is_share(self) -> bool:
        """Whether scores run from 0, the worst, to 1, the best."""
        return self.higher_is_better and self.perfect == 1 and self.penalty == 0


class Metric(ABC):
    """Scores one structure of one scan. A metric of one's own is one subclass, and one YAML that names it.

    Attributes, those of `MetricInfo`, are set in the class, or in ``__init__`` where they depend on parameters.
    `compute` is called only where both masks hold the structure; what an absent one costs is the same policy for all:
    absent in both masks has no score, absent in one scores `penalty`.

    Attributes:
        needs_spacing: Whether `compute` reads the spacing, so that a score without one is refused.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = True
    perfect: float = 1.0
    penalty: Penalty = 0.0
    needs_spacing: bool = False

    @abstractmethod
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> float:
        """Score a structure.

        Args:
            prediction: Boolean ``(*spatial)``, read-only, true somewhere.
            reference: Boolean of the same shape, read-only, true somewhere.
            spacing: Voxel size in mm in array order: ``(sz, sy, sx)`` or ``(sy, sx)``.

        Returns:
            A finite number.
        """

    @property
    def info(self) -> MetricInfo:
        """How its numbers read."""
        return MetricInfo(
            self.name, self.title, self.unit, self.higher_is_better, float(self.perfect), _plain(self.penalty)
        )


@dataclass(frozen=True)
class Counts:
    """Voxels of one structure in two masks of a scan.

    Attributes:
        shared: Voxels that both masks hold.
        reference: Voxels in the reference.
        prediction: Voxels in the prediction.
        scan: Voxels of the scan, without those that nobody annotated.
    """

    shared: int
    reference: int
    prediction: int
    scan: int


class CountMetric(Metric):
    """A metric that follows from numbers of voxels: all structures of a scan are counted in one pass."""

    @abstractmethod
    def of_counts(self, counts: Counts) -> float:
        """Score a structure that both masks hold; a finite number."""

    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> float:
        """Count the voxels and score them."""
        shared, referenced, predicted = map(np.count_nonzero, (prediction & reference, reference, prediction))
        return self.of_counts(Counts(int(shared), int(referenced), int(predicted), reference.size))


def _plain(penalty: Penalty) -> Penalty:
    return penalty if isinstance(penalty, str) else float(penalty)


def penalty_in(metric: Metric | MetricInfo, shape: Sequence[int], spacing: Sequence[float] | None) -> float:
    """Score of a structure of a scan that only one of the two masks holds.

    Args:
        metric: The metric.
        shape: Voxels of the scan along each spatial axis.
        spacing: Voxel size in mm, as many axes; None where it is not known.

    Returns:
        The penalty of the metric; for ``DIAGONAL`` the diagonal of the scan in mm.

    Raises:
        ValueError: It is the diagonal, and the spacing is not known or of another number of axes.
    """
    if metric.penalty != DIAGONAL:
        return float(metric.penalty)
    if spacing is None:
        raise ValueError(f"the metric {metric.name} needs the spacing of the scan")
    return math.hypot(*(size * side for size, side in zip(shape, spacing, strict=True)))
