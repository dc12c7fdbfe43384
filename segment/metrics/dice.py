"""Dice: twice the shared voxels over the voxels of both masks (Dice 1945, doi:10.2307/1932409)."""

from __future__ import annotations

from segment.metrics.metric import CountMetric, Counts


class Dice(CountMetric):
    """Dice in [0, 1]."""

    name, title = "dice", "Dice"

    def of_counts(self, counts: Counts) -> float:
        """Twice the shared voxels over the voxels of both masks."""
        return 2 * counts.shared / (counts.reference + counts.prediction)
