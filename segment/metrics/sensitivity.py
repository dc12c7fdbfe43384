"""Sensitivity, also called recall or true positive rate: the share of the reference that was found."""

from __future__ import annotations

from segment.metrics.metric import CountMetric, Counts


class Sensitivity(CountMetric):
    """Shared voxels over the voxels of the reference, in [0, 1]."""

    name, title = "sensitivity", "Sensitivity"

    def of_counts(self, counts: Counts) -> float:
        """Shared voxels over the voxels of the reference."""
        return counts.shared / counts.reference
