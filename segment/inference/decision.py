"""The label of every voxel from probabilities: the most probable one, or the mask of the highest expected Dice.

The latter is the rule of RankSEG (Dai and Li, JMLR 24, 2023, "RankSEG: A Consistent Ranking-based Framework for
Segmentation"): if voxels are independent, the mask of the highest expected Dice holds the most probable voxels, down to
a threshold of its own in each scan. The paper approximates the expectation; here it is computed to about ten digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from segment.data.labels import Labels
from segment.inference.limits import DICE
from segment.preprocessing.restore import most_likely

_ONE = int(np.float16(1).view(np.uint16))  # non-negative halves are ordered as their bits are
_STEP = 0.35  # of the trapezoidal rule over log x, whose error is about exp(-pi ** 2 / step)
_VOXELS_AT_ONCE = 1 << 22


def decide(probabilities: Tensor, labels: Labels) -> Tensor:
    """Decide the class of every voxel.

    Args:
        probabilities: (output, *spatial). Classes: the most probable wins. Regions: each region above 0.5 writes its
            class, later regions over earlier ones (nnU-Net's ``regions_class_order``).
        labels: Meaning of the outputs.

    Returns:
        (*spatial) uint8 class indices.
    """
    if not labels.regions:
        return most_likely(probabilities)
    classes = torch.zeros(probabilities.shape[1:], dtype=torch.uint8, device=probabilities.device)
    for region, index in zip(probabilities, labels.painted, strict=True):
        classes[region > 0.5] = index
    return classes


def decide_scan(probabilities: np.ndarray, labels: Labels, decision: str) -> np.ndarray:
    """Decide the classes of a whole scan, a few planes at a time.

    Args:
        probabilities: (output, *spatial) in [0, 1], such as a memory-mapped file.
        labels: Meaning of the outputs.
        decision: ``argmax``, as `decide`, or ``dice``: each structure's mask of the highest expected Dice. Where two of
            them want a voxel, the more probable one has it; regions write their class as in `decide`.

    Returns:
        (*spatial) uint8 class indices.
    """
    classes = np.zeros(probabilities.shape[1:], np.uint8)
    thresholds = dice_thresholds(probabilities, labels) if decision == DICE else None
    for part in _parts(probabilities):
        if thresholds is None:
            plane = torch.from_numpy(np.ascontiguousarray(probabilities[:, part], np.float32))
            classes[part] = decide(plane, labels).numpy()
        else:
            classes[part] = _above(np.asarray(probabilities[:, part], np.float16), thresholds, labels)
    return classes


def dice_thresholds(probabilities: np.ndarray, labels: Labels) -> np.ndarray:
    """The smallest probability within each structure's mask of the highest expected Dice, rounded to a half.

    Args:
        probabilities: (output, *spatial) in [0, 1].
        labels: Meaning of the outputs.

    Returns:
        (structure,) float16; infinite for an empty mask.
    """
    outputs = range(0 if labels.regions else 1, len(probabilities))
    values = np.arange(_ONE + 1, dtype=np.uint16).view(np.float16)
    found = []
    for output in outputs:
        counts = np.zeros(_ONE + 1, np.int64)
        for part in _parts(probabilities):
            bits = np.ascontiguousarray(probabilities[output, part], np.float16).clip(0, 1).view(np.uint16)
            counts += np.bincount(bits.ravel(), minlength=len(counts))
        there = np.flatnonzero(counts)[::-1]
        expected = expected_dice(values[there].astype(np.float64), counts[there])
        best = int(expected.argmax())
        found.append(values[there[best - 1]] if best else np.float16(np.inf))
    return np.array(found, np.float16)


def expected_dice(probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Expected Dice of the masks of the most probable voxels, if voxels are independent.

    With N the voxels of the mask and S those of the truth, E[2 shared / (N + S)] is the sum over the mask's voxels j of
    p_j E[2 / (N + 1 + S without j)], and E[1 / m] is the integral over x > 0 of E[exp(-m x)], a product over voxels.

    Args:
        probabilities: (values,) in [0, 1], falling.
        counts: (values,) voxels of each.

    Returns:
        (1 + values,) for masks of the voxels of the first 0, 1, 2, ... values. An empty mask scores 1 if the truth is
        empty, else 0.
    """
    voxels = int(counts.sum())
    x = np.exp(np.arange(-math.log(voxels + 1) - 24, math.log(36), _STEP))  # beyond, exp(-x) is below rounding
    logs = np.log1p(probabilities * np.expm1(-x)[:, None])  # (nodes, values)
    with np.errstate(divide="ignore"):  # of a certain voxel, and where all are impossible
        empty = np.exp((counts * np.log1p(-probabilities)).sum())
        shared = np.log(np.cumsum(counts * probabilities * np.exp(-logs), axis=1))
    sizes = np.cumsum(counts) + 1
    integrand = np.exp(shared + (logs @ counts)[:, None] - x[:, None] * sizes)
    return np.concatenate([[empty], 2 * _STEP * (x @ integrand)])


def _above(part: np.ndarray, thresholds: np.ndarray, labels: Labels) -> np.ndarray:
    """Class indices of a part (output, *spatial) float16 whose structures have thresholds."""
    classes = np.zeros(part.shape[1:], np.uint8)
    if labels.regions:
        for region, threshold, index in zip(part, thresholds, labels.painted, strict=True):
            classes[region >= threshold] = index
        return classes
    best = np.zeros(part.shape[1:], np.float16)
    for index, (one, threshold) in enumerate(zip(part[1:], thresholds, strict=True), start=1):
        wins = (one >= threshold) & (one > best)
        classes[wins], best[wins] = index, one[wins]
    return classes


def _parts(probabilities: np.ndarray) -> Iterator[slice]:
    """Slices along the first spatial axis that bound the memory."""
    plane = math.prod(probabilities.shape[2:]) * len(probabilities)
    step = max(1, _VOXELS_AT_ONCE // max(1, plane))
    return (slice(start, start + step) for start in range(0, probabilities.shape[1], step))
