"""Precision, also called positive predictive value: the share of the prediction that is right."""

from __future__ import annotations

from segment.metrics.metric import CountMetric, Counts


class Precision(CountMetric):
    """Shared voxels over the voxels of the prediction, in [0, 1]."""

    name, title = "precision", "Precision"

    def of_counts(self, counts: Counts) -> float:
        """Shared voxels over the voxels of the prediction."""
        return counts.shared / counts.prediction
