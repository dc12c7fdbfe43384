"""The interface of a metric: how its scores are presented, the penalty for absent structures, and scoring."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

DIAGONAL: Literal["diagonal"] = "diagonal"
"""Penalty of distances: the diagonal of the scan in mm, the longest distance within it."""

MEASURED: Literal["measured"] = "measured"
"""No penalty: the metric also measures a structure that is in only one mask, such as a difference of volumes."""

Penalty = float | Literal["diagonal", "measured"]


@dataclass(frozen=True)
class MetricInfo:
    """How the scores of a metric are presented: all that tables, pages and comparisons of finished runs need.

    Attributes:
        name: Column of ``scans.csv`` and last part of every tag, e.g. ``dice`` or ``hd95_mm``.
        title: Its usual name, e.g. ``Dice``; includes its parameters where they matter.
        unit: Unit, such as ``mm``; empty for none.
        higher_is_better: Whether a higher score is better.
        perfect: The best score.
        penalty: Score of a structure that is in only one of the two masks: a number, ``DIAGONAL`` or ``MEASURED``.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = True
    perfect: float = 1.0
    penalty: Penalty = 0.0

    @property
    def heading(self) -> str:
        """Title and unit as a column heading: ``Dice``, ``HD95 (mm)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def is_share(self) -> bool:
        """Whether scores run from 0, the worst, to 1, the best."""
        return self.higher_is_better and self.perfect == 1 and self.penalty == 0


class Metric(ABC):
    """Scores one structure of one scan. A custom metric is a subclass, and a YAML file that names it.

    The attributes, those of `MetricInfo`, are set in the class, or in ``__init__`` where they depend on parameters.
    `compute` is called only for structures in both masks; if `penalty` is ``MEASURED``, in at least one. The policy for
    absent structures is the same for all metrics: absent in both masks has no score, absent in one scores `penalty`.

    Attributes:
        needs_spacing: Whether `compute` uses the spacing, so that scoring without one is an error.
        costly: Whether it is left out of the validations during training, unless a callback or the schedule follows it.
        uses_tolerance: Whether its scores depend on the tolerance that the data set states, which summaries then state.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = True
    perfect: float = 1.0
    penalty: Penalty = 0.0
    needs_spacing: bool = False
    costly: bool = False
    uses_tolerance: bool = False

    @abstractmethod
    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> float:
        """Score a structure.

        Args:
            prediction: Boolean ``(*spatial)``, read-only, true somewhere (see above).
            reference: Boolean of the same shape, likewise.
            spacing: Voxel size in mm in array order: ``(sz, sy, sx)`` or ``(sy, sx)``.

        Returns:
            A finite number.
        """

    @property
    def info(self) -> MetricInfo:
        """How its scores are presented."""
        return MetricInfo(
            self.name, self.title, self.unit, self.higher_is_better, float(self.perfect), _plain(self.penalty)
        )


@dataclass(frozen=True)
class Counts:
    """Voxels of one structure in two masks of a scan.

    Attributes:
        shared: Voxels in both masks.
        reference: Voxels in the reference.
        prediction: Voxels in the prediction.
        scan: Voxels of the scan, except those that are not annotated.
    """

    shared: int
    reference: int
    prediction: int
    scan: int

    @classmethod
    def of_masks(cls, prediction: np.ndarray, reference: np.ndarray) -> Counts:
        """Count the voxels of two boolean masks of a whole scan."""
        shared, referenced, predicted = map(np.count_nonzero, (prediction & reference, reference, prediction))
        return cls(int(shared), int(referenced), int(predicted), reference.size)


class CountMetric(Metric):
    """A metric that is computed from voxel counts: all structures of a scan are counted in one pass."""

    @abstractmethod
    def of_counts(self, counts: Counts) -> float:
        """Score a structure that is in both masks; a finite number."""

    def compute(self, prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]) -> float:
        """Count the voxels and score them."""
        return self.of_counts(Counts.of_masks(prediction, reference))


def _plain(penalty: Penalty) -> Penalty:
    return penalty if isinstance(penalty, str) else float(penalty)


def penalty_in(metric: Metric | MetricInfo, shape: Sequence[int], spacing: Sequence[float] | None) -> float:
    """Score of a structure of a scan that is in only one of the two masks.

    Args:
        metric: The metric.
        shape: Voxels of the scan along each spatial axis.
        spacing: Voxel size in mm, as many axes; None if unknown.

    Returns:
        The penalty of the metric; for ``DIAGONAL``, the diagonal of the scan in mm; for ``MEASURED``, which has none,
        the perfect score, that of a structure in neither mask.

    Raises:
        ValueError: It is the diagonal, and the spacing is unknown or has another number of axes.
    """
    if metric.penalty == MEASURED:
        return float(metric.perfect)
    if metric.penalty != DIAGONAL:
        return float(metric.penalty)
    if spacing is None:
        raise ValueError(f"the metric {metric.name} needs the spacing of the scan")
    return math.hypot(*(size * side for size, side in zip(shape, spacing, strict=True)))
