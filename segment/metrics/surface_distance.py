"""Average surface distances: ASSD and MASD, two means of the same distances that are often confused.

Source: Maier-Hein, Reinke et al. 2024, Metrics reloaded, doi:10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

from segment.metrics.metric import DIAGONAL
from segment.metrics.pair import PairMetric, StructurePair


class AverageSymmetricSurfaceDistance(PairMetric):
    """ASSD in mm: mean distance of the boundary voxels of both masks to the boundary of the other, pooled."""

    name, title, unit = "assd_mm", "ASSD", "mm"
    higher_is_better, perfect, penalty = False, 0.0, DIAGONAL

    def of_pair(self, pair: StructurePair) -> float:
        """Sum of all distances over their number."""
        first, second = pair.boundary_distances
        return float((first.sum() + second.sum()) / (len(first) + len(second)))


class MeanAverageSurfaceDistance(PairMetric):
    """MASD in mm: mean of the two directed means, each mask counting the same; ``assd`` of MedPy before 0.5."""

    name, title, unit = "masd_mm", "MASD", "mm"
    higher_is_better, perfect, penalty = False, 0.0, DIAGONAL

    def of_pair(self, pair: StructurePair) -> float:
        """Mean of the means of both directions."""
        first, second = pair.boundary_distances
        return float((first.mean() + second.mean()) / 2)
