"""Betti numbers: how many components, tunnels and cavities a mask has, and by how much they differ between masks.

Source: Hu et al. 2019, arXiv:1906.05404, over the whole scan in place of patches.
"""

from __future__ import annotations

import numpy as np

from segment.metrics.metric import MEASURED
from segment.metrics.pair import PairMetric, StructurePair


class BettiError(PairMetric):
    """Betti number error: sum of the differences of all Betti numbers; for a structure in one mask only, their sum."""

    name, title = "betti_error", "Betti number error"
    higher_is_better, perfect, penalty, needs_spacing = False, 0.0, MEASURED, False

    def of_pair(self, pair: StructurePair) -> float:
        """Sum over the Betti numbers of the absolute difference."""
        pairs = zip(betti_numbers(pair.prediction), betti_numbers(pair.reference), strict=True)
        return float(sum(abs(first - second) for first, second in pairs))


def betti_numbers(mask: np.ndarray) -> tuple[int, ...]:
    """Components and holes of a mask in 2D; components, tunnels and cavities in 3D.

    Voxels inside touch by corners, voxels outside by faces; beyond the array is outside.

    Args:
        mask: Boolean ``(*spatial)``, 2D or 3D.
    """
    from scipy.ndimage import generate_binary_structure, label
    from skimage.measure import euler_number

    components = label(mask, generate_binary_structure(mask.ndim, mask.ndim))[1]
    enclosed = label(np.pad(~mask, 1, constant_values=True))[1] - 1
    if mask.ndim == 2:
        return components, enclosed
    return components, components + enclosed - int(euler_number(np.pad(mask, 1), connectivity=3)), enclosed
