"""Specificity, also called true negative rate: the share of all other voxels of the scan that the prediction left out.

It depends on how much of the surroundings a scan shows, and is near 1 for every small structure.
"""

from __future__ import annotations

from segment.metrics.metric import CountMetric, Counts


class Specificity(CountMetric):
    """Voxels in neither mask over the voxels outside the reference, in [0, 1]; 1 if the reference fills the scan.

    A structure in one mask only scores 0, as with every share, although a missed one would have a specificity of 1.
    """

    name, title = "specificity", "Specificity"

    def of_counts(self, counts: Counts) -> float:
        """Voxels in neither mask over the voxels outside the reference."""
        outside = counts.scan - counts.reference
        return 1 - (counts.prediction - counts.shared) / outside if outside else 1.0
