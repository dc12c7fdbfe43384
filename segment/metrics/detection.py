"""Lesions as detections, each with a score: average precision and FROC over the lesions of all scans.

Detections are the components of the predicted mask, which is what a user gets, so both curves end where the mask does:
a lesion that is nowhere in it counts as missed at every threshold. Every one that matches no lesion of the reference is
a false positive, in scans without lesions too.

Sources: Maier-Hein, Reinke et al. 2024, Metrics reloaded, doi:10.1038/s41592-023-02151-z (average precision and FROC of
objects); Baumgartner et al. 2021, nnDetection, arXiv:2106.00817 (an IoU of 0.1, for coarse localisation; components
of a segmentation scored by their maximum or mean probability); Setio et al. 2017, LUNA16,
doi:10.1016/j.media.2017.06.015 (operating points of FROC).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segment.metrics.components import Lesions, one_to_one
from segment.metrics.pair import bounding_box

Score = Literal["maximum", "mean"]
IOUS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Least IoU of a match; that of FROC is the first."""
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which FROC is read."""


@dataclass(frozen=True)
class Detections:
    """Predicted lesions of one structure in one or several scans.

    Attributes:
        scores: float64 ``(lesion,)`` in [0, 1].
        right: bool ``(IOUS, lesion)``: whether it matches a lesion of the reference.
        references: Number of lesions of the reference.
        scans: Number of scans, those without lesions included.
    """

    scores: np.ndarray
    right: np.ndarray
    references: int
    scans: int = 1

    @classmethod
    def pooled(cls, parts: Sequence[Detections]) -> Detections:
        """The lesions of several parts, at least one, together."""
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.right for part in parts], axis=1),
            sum(part.references for part in parts),
            sum(part.scans for part in parts),
        )


@dataclass(frozen=True)
class Detection:
    """How well lesions are detected; precisions and sensitivities are NaN without any lesion in the references.

    Attributes:
        average_precision: float64 ``(IOUS,)`` in [0, 1].
        thresholds: Scores at which FROC has a point, falling ``(point,)``.
        false_positives: Per scan, of the lesions with at least that score.
        sensitivity: Share of the lesions of the references that they match.
        at_rates: Sensitivity at `RATES`; FROC is interpolated linearly from (0, 0) on and constant after its end.
    """

    average_precision: np.ndarray
    thresholds: np.ndarray
    false_positives: np.ndarray
    sensitivity: np.ndarray
    at_rates: np.ndarray


def detections(
    prediction: np.ndarray, reference: np.ndarray, probability: np.ndarray, score: Score = "maximum"
) -> Detections:
    """Match the lesions of a structure in one scan.

    Lesions match one to one, those of the highest score first, each with the free lesion of the reference that it has
    the highest IoU with.

    Args:
        prediction: bool ``(*spatial)``.
        reference: Likewise.
        probability: Probability of the structure in [0, 1], of the same shape; read only around the structure.
        score: Of a predicted lesion: the ``maximum`` of the probability within it; or the ``mean``, which uncertain
            voxels at the rim lower, most in small lesions, but which tells lesions apart where all reach 1.
    """
    box = bounding_box(prediction, reference)
    lesions = Lesions.of_masks(prediction[box], reference[box])
    predicted, referenced = lesions.sizes
    scores = _scores(lesions.prediction, predicted, probability[box], score)
    ious = lesions.ious
    order = np.lexsort((-ious, -scores[lesions.overlaps[:, 1] - 1]))
    right = np.zeros((len(IOUS), len(predicted)), bool)
    for row, least in zip(right, IOUS, strict=True):
        matching = one_to_one(lesions.overlaps, order[ious[order] >= least])
        row[lesions.overlaps[matching, 1] - 1] = True
    return Detections(scores, right, len(referenced))


def _scores(numbered: np.ndarray, sizes: np.ndarray, probability: np.ndarray, score: Score) -> np.ndarray:
    """The score of every component."""
    inside = numbered > 0
    place, values = numbered[inside] - 1, probability[inside]
    if score == "mean":
        return np.bincount(place, values, len(sizes)) / sizes
    scores = np.zeros(len(sizes))
    np.maximum.at(scores, place, values)
    return scores


def detection(found: Detections) -> Detection:
    """Measure the detection of lesions over all scans.

    Lesions of equal score count together. Average precision is the sum of precision times the step in recall, as
    scikit-learn defines it, without COCO's interpolation.

    Args:
        found: The lesions of all scans.
    """
    falling, place = np.unique(-found.scores, return_inverse=True)
    predicted = np.cumsum(np.bincount(place, minlength=len(falling)))
    lesions = found.references or np.nan
    counted = [np.cumsum(np.bincount(place, row, len(falling))) for row in found.right]
    precisions = [(hits / predicted * np.diff(hits, prepend=0)).sum() / lesions for hits in counted]
    rates, sensitivity = (predicted - counted[0]) / found.scans, counted[0] / lesions
    at_rates = np.interp(RATES, np.append(0, rates), np.append(0, sensitivity))
    at_rates[:] = at_rates if found.references else np.nan
    return Detection(np.array(precisions), -falling, rates, sensitivity, at_rates)
