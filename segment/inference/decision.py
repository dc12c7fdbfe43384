"""The label of every voxel from probabilities: the most probable one, thresholds, or the highest expected Dice.

The last is the rule of RankSEG (Dai and Li, JMLR 24, 2023, "RankSEG: A Consistent Ranking-based Framework for
Segmentation"): if voxels are independent, the mask of the highest expected Dice holds the most probable voxels, down to
a threshold of its own in each scan. The paper approximates the expectation; here it is computed to about ten digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.limits import DICE, THRESHOLDS
from segment.preprocessing.restore import most_likely

if TYPE_CHECKING:
    from segment.inference.windows import SlidingWindows

ONE = int(np.float16(1).view(np.uint16))  # non-negative halves are ordered as their bits are
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


def above(probabilities: Tensor, thresholds: Tensor, labels: Labels) -> Tensor:
    """Decide the class of every voxel by a threshold of each structure.

    Args:
        probabilities: (output, *spatial).
        thresholds: (structure,). Where several labels are above theirs, the more probable one has the voxel; regions
            write their class as in `decide`.
        labels: Meaning of the outputs.

    Returns:
        (*spatial) uint8 class indices.
    """
    classes = torch.zeros(probabilities.shape[1:], dtype=torch.uint8, device=probabilities.device)
    limits = thresholds.to(probabilities)
    if labels.regions:
        for region, threshold, index in zip(probabilities, limits, labels.painted, strict=True):
            classes[region >= threshold] = index
        return classes
    best = torch.zeros_like(probabilities[0])
    for index, (one, threshold) in enumerate(zip(probabilities[1:], limits, strict=True), start=1):
        wins = (one >= threshold) & (one > best)
        classes[wins], best[wins] = index, one[wins]
    return classes


def thresholds_of(windows: SlidingWindows, labels: Labels) -> Tensor:
    """The thresholds (structure,) of windows; empty if their decision has none.

    Raises:
        UserError: When it needs them, and they are not there for exactly the structures.
    """
    if windows.decision != THRESHOLDS:
        return torch.empty(0)
    given = windows.thresholds
    if given is None:
        raise UserError(
            "inference.decision=thresholds: the model has no thresholds. Those of a run are found by the command that "
            "trained it with calibration=auto; or give inference.thresholds={LABEL: 0.4, ...}."
        )
    if given.keys() != labels.structures.keys():
        raise UserError(f"inference.thresholds: names {', '.join(given)} in place of {', '.join(labels.structures)}.")
    return torch.tensor([given[name] for name in labels.structures])


def decide_scan(
    probabilities: np.ndarray, labels: Labels, decision: str, thresholds: Tensor | None = None
) -> np.ndarray:
    """Decide the classes of a whole scan, a few planes at a time.

    Args:
        probabilities: (output, *spatial) in [0, 1], such as a memory-mapped file.
        labels: Meaning of the outputs.
        decision: ``argmax``, as `decide`; ``thresholds``, as `above`; or ``dice``: each structure's mask of the highest
            expected Dice, with what `above` does where two of them want a voxel.
        thresholds: (structure,) for the decision of this name.

    Returns:
        (*spatial) uint8 class indices.
    """
    classes = np.zeros(probabilities.shape[1:], np.uint8)
    if decision == DICE:
        thresholds = torch.from_numpy(dice_thresholds(probabilities, labels).astype(np.float32))
    for part in parts(probabilities):
        kind = np.float16 if decision == DICE else np.float32  # what its thresholds were found among
        plane = torch.from_numpy(np.ascontiguousarray(probabilities[:, part], kind)).float()
        found = decide(plane, labels) if thresholds is None else above(plane, thresholds, labels)
        classes[part] = found.numpy()
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
    values = np.arange(ONE + 1, dtype=np.uint16).view(np.float16)
    found = []
    for output in outputs:
        counts = np.zeros(ONE + 1, np.int64)
        for part in parts(probabilities):
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
    with np.errstate(divide="ignore"):  # of a certain voxel
        empty = np.exp((counts * np.log1p(-probabilities)).sum())
    return np.concatenate([[empty], expected_ratio(probabilities, counts, counts * probabilities, np.cumsum(counts))])


def expected_ratio(probabilities: np.ndarray, counts: np.ndarray, terms: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The sum of `expected_dice` over the voxels of masks.

    Args:
        probabilities: (values,) in [0, 1].
        counts: (values,) voxels of each in the scan.
        terms: (values,): voxels of each that are added to the next larger mask, times its probability; or
            (masks, values): those in each mask.
        sizes: (masks,) voxels of each.

    Returns:
        (masks,) expected Dice.
    """
    x = np.exp(np.arange(-math.log(int(counts.sum()) + 1) - 24, math.log(36), _STEP))  # beyond, exp(-x) is rounded off
    logs = np.log1p(probabilities * np.expm1(-x)[:, None])  # (nodes, values)
    with np.errstate(divide="ignore"):  # where all are impossible
        inverse = np.exp(-logs)
        shared = np.log(np.cumsum(terms * inverse, axis=1) if terms.ndim == 1 else inverse @ terms.T)
    integrand = np.exp(shared + (logs @ counts)[:, None] - x[:, None] * (sizes + 1))
    found: np.ndarray = 2 * _STEP * (x @ integrand)
    return found


def parts(probabilities: np.ndarray) -> Iterator[slice]:
    """Slices of (output, *spatial) along the first spatial axis that bound the memory."""
    plane = math.prod(probabilities.shape[2:]) * len(probabilities)
    step = max(1, _VOXELS_AT_ONCE // max(1, plane))
    return (slice(start, start + step) for start in range(0, probabilities.shape[1], step))
