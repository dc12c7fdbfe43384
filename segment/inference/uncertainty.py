"""How uncertain a prediction is, voxel by voxel."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def entropy(probabilities: Tensor, regions: bool) -> Tensor:
    """Entropy of the label, as a share of the highest possible.

    Args:
        probabilities: (output, *spatial) in [0, 1].
        regions: Whether outputs are independent regions; then it is the mean over them.

    Returns:
        (*spatial) in [0, 1]: 0 where the label is certain, 1 where all are equally probable.
    """
    found = torch.special.entr(probabilities)
    if regions:
        return (found + torch.special.entr(1 - probabilities)).mean(dim=0) / math.log(2)
    return found.sum(dim=0) / math.log(len(probabilities))


def uncertainty(means: np.ndarray, regions: bool) -> np.ndarray:
    """Two maps of how uncertain the mean of several passes is.

    Args:
        means: (output + 1, *spatial): the mean probabilities of models and mirrored views, then their mean entropy.
        regions: Whether outputs are independent regions.

    Returns:
        (2, *spatial) float32 in [0, 1]: the entropy of the mean; and how much of it comes from passes that differ,
        the mutual information of label and pass (Depeweg et al. 2018), 0 for a single pass.
    """
    values = torch.from_numpy(np.asarray(means, np.float32))
    total = entropy(values[:-1].clamp(0, 1), regions)
    return torch.stack([total, total - values[-1]]).clamp(0, 1).numpy()
