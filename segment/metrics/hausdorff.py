"""Hausdorff distance, and percentiles of it such as HD95.

Source: Maier-Hein, Reinke et al. 2024, Metrics reloaded, doi:10.1038/s41592-023-02151-z; Taha and Hanbury 2015,
doi:10.1186/s12880-015-0068-x.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from segment.metrics.metric import DIAGONAL
from segment.metrics.pair import PairMetric, StructurePair, Surface

Definition = Literal["monai", "medpy", "deepmind"]


class HausdorffDistance(PairMetric):
    """Percentile of the distances between the boundaries of both masks, in mm.

    Three definitions are in use, and their scores of one pair differ. ``monai``, the default and the one of Metrics
    reloaded, takes the percentile of the distances of each mask's boundary voxels to the other's, then the greater of
    the two. ``medpy`` takes the percentile of both directions pooled. ``deepmind`` (surface-distance) does as the
    first with surface elements weighted by their area in place of voxels.

    Args:
        percentile: Above 0, up to 100; 100 is the Hausdorff distance itself.
        definition: One of the three, to match published numbers.

    Raises:
        ValueError: The percentile is out of range, or the definition unknown.
    """

    unit, higher_is_better, perfect, penalty = "mm", False, 0.0, DIAGONAL

    def __init__(self, percentile: float = 95, definition: Definition = "monai") -> None:
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile={percentile:g} is not above 0 and up to 100")
        if definition not in get_args(Definition):
            raise ValueError(f"definition={definition} is not one of {', '.join(get_args(Definition))}")
        self.percentile, self.definition = percentile, definition
        default = definition == "monai"
        short = f"{percentile:g}".replace(".", "_")
        self.name = f"hd{short}_mm" if default else f"hd{short}_{definition}_mm"
        self.title = f"HD{percentile:g}" if default else f"HD{percentile:g} as in {definition}"

    def of_pair(self, pair: StructurePair) -> float:
        """The percentile by the definition."""
        if self.definition == "deepmind":
            return max(_weighted_percentile(surface, self.percentile) for surface in pair.surfaces)
        if self.definition == "medpy":
            return float(np.percentile(np.concatenate(pair.boundary_distances), self.percentile))
        return float(max(np.percentile(distances, self.percentile) for distances in pair.boundary_distances))


def _weighted_percentile(surface: Surface, percentile: float) -> float:
    """The least distance within which lies this percentage of the area."""
    order = np.argsort(surface.distances)
    share = np.cumsum(surface.areas[order])
    position = int(np.searchsorted(share / share[-1], percentile / 100))
    return float(surface.distances[order][min(position, len(order) - 1)])
