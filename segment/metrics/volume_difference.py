"""Difference of the volumes of both masks, which says nothing about where they lie."""

from __future__ import annotations

import math

from segment.metrics.metric import MEASURED, CountMetric, Counts
from segment.metrics.pair import PairMetric, StructurePair


class VolumeDifference(PairMetric):
    """Absolute difference of the volumes in ml; for a structure in one mask only, its volume."""

    name, title, unit = "volume_difference_ml", "Volume difference", "ml"
    higher_is_better, perfect, penalty = False, 0.0, MEASURED

    def of_pair(self, pair: StructurePair) -> float:
        """Difference of the voxel counts times the volume of a voxel."""
        return abs(pair.counts.prediction - pair.counts.reference) * math.prod(pair.spacing) / 1000


class RelativeVolumeDifference(CountMetric):
    """Absolute difference of the volumes over their mean, in [0, 2]; 2, the most, for a structure in one mask only.

    Over the mean, as in plots of Bland and Altman (1986): over the volume of the reference, a structure that the
    reference lacks would have no score.
    """

    name, title = "relative_volume_difference", "Relative volume difference"
    higher_is_better, perfect, penalty = False, 0.0, 2.0

    def of_counts(self, counts: Counts) -> float:
        """Difference of the voxel counts over their mean."""
        return 2 * abs(counts.prediction - counts.reference) / (counts.prediction + counts.reference)
