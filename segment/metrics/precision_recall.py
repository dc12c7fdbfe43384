"""Precision and recall of each structure at every threshold of its probability, from counts in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

THRESHOLDS = 127  # as many as TensorBoard accepts
SLAB = 1 << 22  # voxels that are counted at once


def threshold_counts(
    probabilities: Tensor,
    reference: Tensor,
    structures: Mapping[str, Sequence[int]],
    regions: bool = False,
    ignore: int | None = None,
) -> Tensor:
    """Count the voxels of one scan by probability, separately for each structure.

    Counts of several scans can be added, so a curve over all scans takes no more memory than one.

    Args:
        probabilities: (output, *spatial) in [0, 1]; NaN counts as 0.
        reference: (*spatial) class indices on the same grid and device.
        structures: Name of every structure to the classes it consists of.
        regions: Whether output i is structure i; otherwise it is class i.
        ignore: Voxels of this value in the reference are left out; None for none.

    Returns:
        (structure, 2, THRESHOLDS) int64 on the device: voxels outside and inside the structure; bin k has those with
        k <= (THRESHOLDS - 1) * probability < k + 1.
    """
    counts = torch.zeros(len(structures), 2 * THRESHOLDS, dtype=torch.int64, device=probabilities.device)
    planes = max(1, SLAB // max(1, reference[0].numel()))
    for start in range(0, len(reference), planes):
        part = slice(start, start + planes)
        truth = reference[part]
        known = None if ignore is None or not (truth == ignore).any() else truth != ignore
        for index, classes in enumerate(structures.values()):
            probability = probabilities[index if regions else classes[0], part]
            bins = (probability * (THRESHOLDS - 1)).nan_to_num_(0).to(torch.uint8)
            inside = torch.isin(truth, torch.tensor(classes, dtype=truth.dtype, device=truth.device))
            bins += THRESHOLDS * inside.to(torch.uint8)
            counts[index] += torch.bincount(
                (bins if known is None else bins[known]).flatten(), minlength=2 * THRESHOLDS
            )
    return counts.view(len(structures), 2, THRESHOLDS)


def average_precision(counts: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve: the sum of precision times the step in recall, as scikit-learn defines it.

    Args:
        counts: (..., 2, THRESHOLDS) from :func:`threshold_counts`, summed over scans.

    Returns:
        (...) float64 in [0, 1]; NaN where the structure has no voxel. Thresholds are those of the counts.
    """
    curve = precision_recall(counts)
    precision, recall = curve[..., 4, :], curve[..., 5, :]
    steps = recall - np.concatenate([recall[..., 1:], np.zeros_like(recall[..., :1])], axis=-1)
    there = counts[..., 1, :].sum(axis=-1) > 0
    found: np.ndarray = np.where(there, (precision * steps).sum(axis=-1), np.nan)
    return found


def precision_recall(counts: np.ndarray) -> np.ndarray:
    """Compute the precision-recall curve of a structure from its counts.

    Args:
        counts: (..., 2, THRESHOLDS) from :func:`threshold_counts`, summed over scans.

    Returns:
        (..., 6, THRESHOLDS) float64: true positives, false positives, true negatives, false negatives, precision and
        recall when every voxel of probability >= k / (THRESHOLDS - 1) is assigned to the structure. Precision is 0
        where no voxel is assigned, recall where the structure has no voxel.
    """
    positive = np.flip(np.cumsum(np.flip(counts.astype(np.float64), -1), -1), -1)
    false_positive, true_positive = positive[..., 0, :], positive[..., 1, :]
    true_negative, false_negative = (part[..., :1] - part for part in (false_positive, true_positive))
    precision = true_positive / np.maximum(1, true_positive + false_positive)
    recall = true_positive / np.maximum(1, true_positive + false_negative)
    return np.stack([true_positive, false_positive, true_negative, false_negative, precision, recall], -2)
