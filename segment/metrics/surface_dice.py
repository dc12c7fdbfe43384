"""Normalised surface Dice: the share of both surfaces that agrees within a tolerance.

Source: Nikolov et al. 2021, doi:10.2196/26151, whose program surface-distance computes the same.
"""

from __future__ import annotations

import math

from segment.metrics.pair import PairMetric, StructurePair

TOLERANCE = 2.0
"""Tolerance in mm where neither the metric nor the data set states one."""

_SLACK = 1e-9  # mm: a distance of just the tolerance counts, however it was rounded


class SurfaceDice(PairMetric):
    """NSD in [0, 1]: area within the tolerance of the other surface over the area of both; in 2D, length.

    Args:
        tolerance: In mm, for every structure; None: that of the data set (``data.tolerance``), else 2 mm.

    Raises:
        ValueError: The tolerance is negative or not finite.
    """

    name, title = "nsd", "NSD"

    def __init__(self, tolerance: float | None = None) -> None:
        if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
            raise ValueError(f"tolerance={tolerance:g} mm is negative or not finite")
        self.tolerance = tolerance
        self.uses_tolerance = tolerance is None
        if tolerance is not None:
            self.title = f"NSD at {tolerance:g} mm"

    def of_pair(self, pair: StructurePair) -> float:
        """Area within the tolerance over the area of both surfaces."""
        stated = pair.tolerance if self.tolerance is None else self.tolerance
        limit = (TOLERANCE if stated is None else stated) + _SLACK
        within = sum(surface.areas[surface.distances <= limit].sum() for surface in pair.surfaces)
        return float(within / sum(surface.areas.sum() for surface in pair.surfaces))
