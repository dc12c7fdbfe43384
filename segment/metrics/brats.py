"""Lesion-wise Dice and HD95 by the rule of the BraTS challenges since 2023.

Lesions of the reference that touch after dilation count as one; every predicted component that meets the dilated lesion
belongs to it. Source: Saluja et al. 2023, github.com/rachitsaluja/BraTS-2023-Metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segment.metrics.components import lesions_of
from segment.metrics.hausdorff import HausdorffDistance
from segment.metrics.metric import DIAGONAL
from segment.metrics.pair import PairMetric, StructurePair, enclosing


@dataclass(frozen=True)
class LesionPair:
    """A lesion of the reference and what was predicted of it, cropped alike; the latter may be empty."""

    prediction: np.ndarray
    reference: np.ndarray


class _LesionWise(PairMetric):
    """Mean over lesions of the reference, and over predicted components that belong to none, which score the worst.

    Args:
        dilation: Voxels by which the reference is dilated; 3 for gliomas, 1 for metastases.
        smallest: Lesions of the reference of so many mm3 or less do not count; 50 for gliomas, 2 for metastases.

    Raises:
        ValueError: An argument is negative.
    """

    unmatched: float

    def __init__(self, dilation: int = 3, smallest: float = 50.0) -> None:
        if dilation < 0 or smallest < 0:
            raise ValueError(f"dilation={dilation} and smallest={smallest:g} must not be negative")
        self.dilation, self.smallest = dilation, smallest

    def of_pair(self, pair: StructurePair) -> float:
        """Mean of the scores; the perfect one if no lesion counts and nothing else was predicted."""
        lesions, invented = brats_lesions(pair, self.dilation)
        voxel = float(np.prod(pair.spacing))
        counted = [lesion for lesion in lesions if np.count_nonzero(lesion.reference) * voxel > self.smallest]
        scores = [
            self.of_lesion(lesion, pair.spacing) if lesion.prediction.any() else self.unmatched for lesion in counted
        ]
        scores += [self.unmatched] * invented
        return float(np.mean(scores)) if scores else self.perfect

    def of_lesion(self, lesion: LesionPair, spacing: tuple[float, ...]) -> float:
        """Score a lesion that was found."""
        raise NotImplementedError


class LesionWiseDice(_LesionWise):
    """BraTS's lesion-wise Dice in [0, 1]."""

    name, title, unmatched = "lesionwise_dice", "Lesion-wise Dice (BraTS)", 0.0

    def of_lesion(self, lesion: LesionPair, spacing: tuple[float, ...]) -> float:
        """Dice of the lesion and what was predicted of it."""
        shared = np.count_nonzero(lesion.prediction & lesion.reference)
        return 2 * shared / (np.count_nonzero(lesion.prediction) + np.count_nonzero(lesion.reference))


class LesionWiseHD95(_LesionWise):
    """BraTS's lesion-wise HD95 in mm, as surface-distance defines it; 374 mm for a lesion without match."""

    name, title, unit = "lesionwise_hd95_mm", "Lesion-wise HD95 (BraTS)", "mm"
    higher_is_better, perfect, penalty, unmatched = False, 0.0, DIAGONAL, 374.0

    def of_lesion(self, lesion: LesionPair, spacing: tuple[float, ...]) -> float:
        """HD95 of the lesion and what was predicted of it."""
        return HausdorffDistance(95, "deepmind").compute(lesion.prediction, lesion.reference, spacing)


def brats_lesions(pair: StructurePair, dilation: int) -> tuple[list[LesionPair], int]:
    """Lesions of the reference with what was predicted of them, and the number of predicted components of none."""
    from scipy.ndimage import binary_dilation, find_objects, generate_binary_structure, label

    dimensions = pair.reference.ndim
    around = generate_binary_structure(dimensions, min(2, dimensions))
    touching = generate_binary_structure(dimensions, dimensions)
    predicted = pair.shared(lesions_of).prediction
    grown = binary_dilation(pair.reference, around, dilation) if dilation else pair.reference
    merged = np.where(pair.reference, label(grown, touching)[0], 0)
    found, matched = [], set[int]()
    boxes = find_objects(predicted)
    for number, box in enumerate(find_objects(merged), 1):
        wide = tuple(slice(max(0, side.start - dilation), side.stop + dilation) for side in box)
        lesion = merged[wide] == number
        near = binary_dilation(lesion, around, dilation) if dilation else lesion
        meeting = np.setdiff1d(predicted[wide][near], [0])
        matched |= set(meeting.tolist())
        whole = enclosing([box, *(boxes[other - 1] for other in meeting)])
        found.append(LesionPair(np.isin(predicted[whole], meeting), merged[whole] == number))
    return found, int(predicted.max()) - len(matched)
