"""Intersection over union: shared voxels over the voxels of either mask (Jaccard 1912)."""

from __future__ import annotations

from segment.metrics.metric import CountMetric, Counts


class IoU(CountMetric):
    """Intersection over union in [0, 1]."""

    name, title = "iou", "IoU"

    def of_counts(self, counts: Counts) -> float:
        """Shared voxels over the voxels of either mask."""
        return counts.shared / (counts.reference + counts.prediction - counts.shared)
