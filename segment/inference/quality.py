"""Expected Dice of a mask without a reference, from the probabilities that it was decided from."""

from __future__ import annotations

import math

import numpy as np

from segment.data.labels import Labels
from segment.inference.decision import ONE, expected_ratio, parts

VALUES = np.arange(ONE + 1, dtype=np.uint16).view(np.float16).astype(np.float64)
"""The halves from 0 to 1, in order."""


def expected_scan_dice(probabilities: np.ndarray, mask: np.ndarray, labels: Labels) -> dict[str, float]:
    """The Dice of every structure of a mask to expect of its reference, if voxels are independent.

    It is what the network believes: as right as its probabilities are calibrated (compare Li et al. 2022, "Estimating
    model performance under domain shifts with class-specific confidence scores", which does so with a mean).

    Args:
        probabilities: (output, *spatial) in [0, 1], such as a memory-mapped file; rounded to halves.
        mask: (*spatial) class indices.
        labels: Meaning of both.

    Returns:
        Name of each structure to its expected Dice; of an absent one, the probability that the scan has none of it.
    """
    found = {}
    for index, (name, classes) in enumerate(labels.structures.items()):
        output = index if labels.regions else classes[0]
        counts = np.zeros((2, len(VALUES)), np.int64)  # outside and inside of the mask
        for part in parts(probabilities):
            bits = np.ascontiguousarray(probabilities[output, part], np.float16).clip(0, 1).view(np.uint16).ravel()
            inside = np.isin(mask[part], classes).ravel()
            for kind in (0, 1):
                counts[kind] += np.bincount(bits[inside == kind], minlength=len(VALUES))
        found[name] = expected_mask_dice(VALUES, counts[0], counts[1])
    return found


def expected_mask_dice(probabilities: np.ndarray, outside: np.ndarray, inside: np.ndarray) -> float:
    """Expected Dice of a mask, if voxels are independent; see `segment.inference.decision.expected_dice`.

    Args:
        probabilities: (values,) in [0, 1].
        outside: (values,) voxels of each outside of the mask.
        inside: (values,) voxels of each in the mask.

    Returns:
        In [0, 1]; of an empty mask, the probability that the truth is empty.
    """
    counts = outside + inside
    there = counts > 0
    values, counts, inside = probabilities[there], counts[there], inside[there]
    size = int(inside.sum())
    if not size:
        with np.errstate(divide="ignore", invalid="ignore"):  # of a certain voxel
            return float(np.exp((counts * np.log1p(-values)).sum()))
    terms = (inside * values)[None]
    return min(1.0, float(expected_ratio(values, counts, terms, np.array([size]))[0])) if math.fsum(terms[0]) else 0.0
