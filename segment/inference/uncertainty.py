"""How uncertain a prediction is, voxel by voxel."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import entr


def entropy(probabilities: np.ndarray, regions: bool) -> np.ndarray:
    """Entropy of the predicted label, as a share of the highest possible.

    Args:
        probabilities: (output, *spatial) in [0, 1].
        regions: Whether outputs are independent regions; then it is the mean over them.

    Returns:
        (*spatial) float32 in [0, 1]: 0 where the prediction is certain, 1 where all labels are equally probable.
    """
    values = np.asarray(probabilities, np.float32)
    found: np.ndarray
    if regions:
        found = (entr(values) + entr(1 - values)).mean(axis=0) / math.log(2)
    else:
        found = entr(values).sum(axis=0) / math.log(len(values))
    return found.clip(0, 1)
