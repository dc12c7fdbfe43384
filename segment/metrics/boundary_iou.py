"""Boundary IoU: intersection over union of the rims of both masks, which for large structures IoU hardly sees.

Source: Cheng et al. 2021, arXiv:2103.16562, with a distance in mm in place of a share of the image's diagonal.
"""

from __future__ import annotations

import math

import numpy as np

from segment.metrics.pair import PairMetric, StructurePair


class BoundaryIoU(PairMetric):
    """Boundary IoU in [0, 1]: of the voxels of each mask whose centre is at most so far from one outside it.

    Args:
        distance: Width of the rim in mm; boundary voxels always belong to it.

    Raises:
        ValueError: The distance is negative or not finite.
    """

    name = "boundary_iou"

    def __init__(self, distance: float = 2.0) -> None:
        if not (math.isfinite(distance) and distance >= 0):
            raise ValueError(f"distance={distance:g} mm is negative or not finite")
        self.distance = distance
        self.title = f"Boundary IoU at {distance:g} mm"

    def of_pair(self, pair: StructurePair) -> float:
        """Shared voxels of the rims over the voxels of either."""
        first, second = (
            self._rim(mask, boundary, pair.spacing)
            for mask, boundary in zip((pair.prediction, pair.reference), pair.boundaries, strict=True)
        )
        return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))

    def _rim(self, mask: np.ndarray, boundary: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
        from scipy.ndimage import distance_transform_edt

        inner = (slice(1, -1),) * mask.ndim
        depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing)[inner]
        return mask & (boundary | (depth <= self.distance))
