"""Choose points that cover others: greedy k-centre."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def k_centre(features: np.ndarray, known: Sequence[int], candidates: Sequence[int], count: int) -> list[int]:
    """Choose points one by one, each the farthest from those that are known or chosen (Sener and Savarese 2018).

    arXiv 1708.00489, algorithm 1. Where nothing is known, the first is the one nearest to the mean of the candidates.

    Args:
        features: (points, features).
        known: Rows that are covered already.
        candidates: Rows to choose from; of equally far ones, the first is chosen.
        count: How many to choose; fewer if there are fewer candidates.

    Returns:
        The chosen rows, in order.
    """
    left, centres, chosen = list(candidates), list(known), []
    if not centres and left:
        middle = features[left].mean(axis=0)
        chosen = [left[int(np.linalg.norm(features[left] - middle, axis=1).argmin())]]
        left.remove(chosen[0])
        centres = list(chosen)
    while left and len(chosen) < count:
        distances = np.linalg.norm(features[left][:, None] - features[centres][None], axis=2).min(axis=1)
        farthest = left.pop(int(distances.argmax()))
        chosen.append(farthest)
        centres.append(farthest)
    return chosen[:count]
