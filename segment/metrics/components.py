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

    @classmethod
    def of_masks(cls, prediction: np.ndarray, reference: np.ndarray) -> Lesions:
        """The components of two boolean masks ``(*spatial)``."""
        predicted, referenced = components(prediction), components(reference)
        both = (predicted > 0) & (referenced > 0)
        pairs, shared = np.unique(np.stack([referenced[both], predicted[both]]), axis=1, return_counts=True)
        return cls(predicted, referenced, np.column_stack([pairs.T, shared]).astype(np.int64))

    @computed_once
    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Voxels of every component of prediction and reference; entry 0 is that of component 1."""
        first, second = (np.bincount(labels.ravel())[1:] for labels in (self.prediction, self.reference))
        return first, second

    @computed_once
    def ious(self) -> np.ndarray:
        """IoU of every pair that overlaps, float64 ``(pair,)``."""
        predicted, referenced = self.sizes
        reference, prediction, shared = self.overlaps.T
        found: np.ndarray = shared / (referenced[reference - 1] + predicted[prediction - 1] - shared)
        return found


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
    return Lesions.of_masks(pair.prediction, pair.reference)


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
    ious = lesions.ious
    chosen = np.arange(len(ious))
    if rule == "iou":
        order = np.argsort(-ious, kind="stable")
        chosen = one_to_one(lesions.overlaps, order[ious[order] > threshold])
    found, right = (len(np.unique(lesions.overlaps[chosen, side])) for side in (0, 1))
    return Matches(found, len(referenced), right, len(predicted), ious[chosen])


def one_to_one(overlaps: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Choose pairs in which each lesion occurs once, the first ones first.

    Args:
        overlaps: As `Lesions.overlaps`.
        order: Indices of the pairs to choose from, the best first.

    Returns:
        Indices of the chosen pairs, int64.
    """
    chosen: list[int] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for index in order.tolist():
        sides = overlaps[index, :2].tolist()
        if not any(side in used for side, used in zip(sides, taken, strict=True)):
            chosen.append(index)
            for side, used in zip(sides, taken, strict=True):
                used.add(side)
    return np.array(chosen, np.int64)
