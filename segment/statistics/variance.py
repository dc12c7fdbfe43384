"""Variance components of the scores of one method: scans, folds and seeds, by the method of moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Variance:
    """Variance components of a method's foreground scores, in squared units of the score.

    Attributes:
        scan: Between scans of a fold; with one seed it includes the residual. None if no fold has two scans.
        fold: Between folds; None with one fold. With one seed it includes training randomness.
        seed: Training randomness, between the seeds of a fold; None with one seed.
        rest: Residual: interaction of scan and seed; None with one seed.
    """

    scan: float | None
    fold: float | None
    seed: float | None
    rest: float | None


def variance_components(scores: np.ndarray, folds: np.ndarray) -> Variance:
    """Split the variance of scores into its components.

    For the model ``y = mu + fold + scan(in fold) + training(of fold and seed) + rest``, the mean squares of the
    analysis of variance, pooled over folds, are equated with their expectations (Searle, Casella and McCulloch,
    Variance Components, 1992, chapter 4); a negative estimate becomes 0.

    Args:
        scores: Foreground scores ``(scans, seeds)``, each training being one fold and seed; scans with NaN are left
            out.
        folds: Fold of every scan ``(scans,)``.

    Returns:
        The components.
    """
    complete = np.isfinite(scores).all(axis=1)
    scores, folds = scores[complete], folds[complete]
    parts = [scores[folds == fold] for fold in np.unique(folds)]
    seeds = scores.shape[1]
    scans = np.array([len(part) for part in parts])
    within = int(np.sum(scans - 1))
    if within < 1:
        return Variance(None, None, None, None)
    # With one seed this is the variance between scans, including the residual.
    scan_square = seeds * sum(float(((p.mean(1) - p.mean()) ** 2).sum()) for p in parts) / within
    rest = _rest(parts) / (within * (seeds - 1)) if seeds > 1 else 0.0
    scan = (scan_square - rest) / seeds
    training = 0.0
    if seeds > 1:
        between = sum(len(part) * float(((part.mean(0) - part.mean()) ** 2).sum()) for part in parts)
        training = (between - len(parts) * (seeds - 1) * rest) / ((seeds - 1) * scans.sum())
    fold = None
    if len(parts) > 1:
        chance = np.mean(scan / scans + training / seeds + rest / (scans * seeds))
        fold = max(0.0, float(np.var([part.mean() for part in parts], ddof=1) - chance))
    if seeds == 1:
        return Variance(max(0.0, scan), fold, None, None)
    return Variance(max(0.0, scan), fold, max(0.0, float(training)), rest)


def _rest(parts: Sequence[np.ndarray]) -> float:
    """Residual sum of squares over folds, after removing effects of scan and seed."""
    residuals = (part - part.mean(1, keepdims=True) - part.mean(0, keepdims=True) + part.mean() for part in parts)
    return sum(float((residual**2).sum()) for residual in residuals)
