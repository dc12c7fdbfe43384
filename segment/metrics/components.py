"""Lesions of both masks, as connected components, and which of them match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from segment.metrics.pair import StructurePair, computed_once

Rule = Literal["overlap", "iou"]


@dataclass(frozen=True)
class Lesions:
    """Components of both masks; voxels belong together if they touch, be it by a corner.

    Attributes:
        prediction: ``(*spatial)`` int: 0 outside, else the number of the component, from 1.
        reference: Likewise.
        overlaps: (pair, 3) int64: component of the reference, of the prediction, and their shared voxels, at least 1.
    """

    prediction: np.ndarray
    reference: np.ndarray
    overlaps: np.ndarray

    @computed_once
    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Voxels of every component of prediction and reference; entry 0 is that of component 1."""
        first, second = (np.bincount(labels.ravel())[1:] for labels in (self.prediction, self.reference))
        return first, second


@dataclass(frozen=True)
class Matches:
    """How many lesions match.

    Attributes:
        found: Lesions of the reference that a predicted one matches.
        references: Lesions of the reference, at least 1.
        right: Predicted lesions that match one of the reference.
        predictions: Predicted lesions, at least 1.
        ious: IoU of every matching pair, float64; with the rule ``overlap``, of every pair that overlaps.
    """

    found: int
    references: int
    right: int
    predictions: int
    ious: np.ndarray


def components(mask: np.ndarray) -> np.ndarray:
    """Number the components of a mask; voxels belong together if they touch, be it by a corner.

    Args:
        mask: bool ``(*spatial)``.

    Returns:
        int32 of the same shape: 0 outside, else the number of the component, from 1.
    """
    from scipy.ndimage import generate_binary_structure, label

    numbered: np.ndarray = label(mask, generate_binary_structure(mask.ndim, mask.ndim))[0]
    return numbered


def lesions_of(pair: StructurePair) -> Lesions:
    """The components of a structure in both masks."""
    prediction, reference = components(pair.prediction), components(pair.reference)
    both = (prediction > 0) & (reference > 0)
    pairs, shared = np.unique(np.stack([reference[both], prediction[both]]), axis=1, return_counts=True)
    return Lesions(prediction, reference, np.column_stack([pairs.T, shared]).astype(np.int64))


def check_rule(rule: str, threshold: float) -> None:
    """Raise ValueError for a matching rule that `match` does not know."""
    if rule not in get_args(Rule):
        raise ValueError(f"matching={rule} is not one of {', '.join(get_args(Rule))}")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold:g} is not an IoU from 0 to less than 1")


def match(lesions: Lesions, rule: Rule, threshold: float) -> Matches:
    """Match the lesions of both masks.

    Args:
        lesions: Components of both masks.
        rule: ``overlap``: lesions match if they share a voxel, several with one too. ``iou``: pairs whose IoU is above
            the threshold, each lesion in one pair only, those of the highest IoU first.
        threshold: IoU of the second rule.
    """
    predicted, referenced = lesions.sizes
    reference, prediction, shared = lesions.overlaps.T
    ious = shared / (referenced[reference - 1] + predicted[prediction - 1] - shared)
    chosen = np.arange(len(ious))
    if rule == "iou":
        chosen = _one_to_one(lesions.overlaps, ious, threshold)
    found, right = (len(np.unique(lesions.overlaps[chosen, side])) for side in (0, 1))
    return Matches(found, len(referenced), right, len(predicted), ious[chosen])


def _one_to_one(overlaps: np.ndarray, ious: np.ndarray, threshold: float) -> np.ndarray:
    """Indices of the matching pairs, in which each lesion occurs once."""
    chosen: list[int] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for index in np.argsort(-ious, kind="stable"):
        sides = overlaps[index, :2].tolist()
        if ious[index] > threshold and not any(side in used for side, used in zip(sides, taken, strict=True)):
            chosen.append(int(index))
            for side, used in zip(sides, taken, strict=True):
                used.add(side)
    return np.array(chosen, np.int64)
