"""Calibration of the probabilities of a structure, from the counts of its precision-recall curve.

Source: Maier-Hein, Reinke et al. 2024, Metrics reloaded, doi:10.1038/s41592-023-02151-z; Guo et al. 2017,
arXiv:1706.04599 (expected calibration error).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 14
"""Bins of the reliability curve, each of as many of the narrow ones."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of one structure over voxels; NaN without any voxel.

    Attributes:
        ece: Expected calibration error: mean over voxels of the distance of its bin's observed share to its mean
            probability, in [0, 1].
        brier: Mean squared difference of probability and truth, in [0, 1].
        nll: Mean negative log-likelihood in nats.
        probability: Mean probability of every bin ``(BINS,)``; NaN where it has no voxel.
        observed: Share of its voxels that belong to the structure.
        voxels: Number of its voxels.
    """

    ece: float
    brier: float
    nll: float
    probability: np.ndarray
    observed: np.ndarray
    voxels: np.ndarray


def calibration(counts: np.ndarray) -> Calibration:
    """Measure how well the probabilities of a structure are calibrated.

    Args:
        counts: ``(2, THRESHOLDS)`` from `segment.metrics.precision_recall.threshold_counts`: voxels outside and inside
            the structure by probability, in bins of 1/126, whose centre stands for all of its voxels: the Brier score
            is exact to 0.004.
    """
    narrow = counts.shape[-1] - 1
    centres = np.minimum((np.arange(narrow + 1) + 0.5) / narrow, 1.0)
    outside, inside = counts.astype(np.float64)
    voxels = outside + inside
    total = voxels.sum()
    place = np.minimum(np.arange(narrow + 1) * BINS // narrow, BINS - 1)
    wide, hits, mass = (np.bincount(place, weights, BINS) for weights in (voxels, inside, voxels * centres))
    probability, observed = (np.divide(part, wide, out=np.full(BINS, np.nan), where=wide > 0) for part in (mass, hits))
    if not total:
        return Calibration(np.nan, np.nan, np.nan, probability, observed, wide)
    # The last bin holds the voxels of probability 1 alone; at its centre a wrong one would be infinitely unlikely.
    likely = np.minimum(centres, 1 - 0.5 / narrow)
    return Calibration(
        ece=float(np.abs(mass - hits).sum() / total),
        brier=float((inside * (1 - centres) ** 2 + outside * centres**2).sum() / total),
        nll=float(-(inside * np.log(likely) + outside * np.log(1 - likely)).sum() / total),
        probability=probability,
        observed=observed,
        voxels=wide,
    )
