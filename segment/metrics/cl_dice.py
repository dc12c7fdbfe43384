"""clDice: overlap of each mask with the centreline of the other, for vessels and other tubes.

Source: Shit et al. 2021, arXiv:2003.07311; skeletons as in the authors' program.
"""

from __future__ import annotations

import numpy as np

from segment.metrics.pair import PairMetric, StructurePair


class ClDice(PairMetric):
    """clDice in [0, 1]: harmonic mean of the shares of each mask's skeleton that lie in the other mask."""

    name, title, needs_spacing = "cldice", "clDice", False

    def of_pair(self, pair: StructurePair) -> float:
        """Harmonic mean of topological precision and topological sensitivity; 0 if both are 0."""
        precision = _share(_skeleton(pair.prediction), pair.reference)
        sensitivity = _share(_skeleton(pair.reference), pair.prediction)
        total = precision + sensitivity
        return 2 * precision * sensitivity / total if total else 0.0


def _skeleton(mask: np.ndarray) -> np.ndarray:
    """Centreline, one voxel thick (Zhang and Suen 1984 in 2D, Lee et al. 1994 in 3D); never empty."""
    from skimage.morphology import skeletonize

    found: np.ndarray = skeletonize(mask)
    return found if found.any() else mask


def _share(skeleton: np.ndarray, mask: np.ndarray) -> float:
    return float(np.count_nonzero(skeleton & mask) / np.count_nonzero(skeleton))
