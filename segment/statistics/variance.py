"""Where the scores of one method vary: between scans, folds and seeds, by the method of moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Variance:
    """Components of the variance of a method's foreground scores, in units of the score squared.

    Attributes:
        scan: Between scans of a fold; with one seed it holds the rest too. None with fewer than two scans in each fold.
        fold: Between folds; None with one fold, and with one seed it holds the chance of training too.
        seed: Chance of training, between the seeds of a fold; None with one seed.
        rest: What is left: scans on which the seeds differ otherwise; None with one seed.
    """

    scan: float | None
    fold: float | None
    seed: float | None
    rest: float | None


def variance_components(scores: np.ndarray, folds: np.ndarray) -> Variance:
    """Split the variance of scores into its components.

    Of the model ``y = mu + fold + scan(in fold) + training(of fold and seed) + rest`` the mean squares of the analysis
    of variance, pooled over folds, are set equal to their expectations (Searle, Casella and McCulloch, Variance
    Components, 1992, chapter 4); a negative estimate becomes 0.

    Args:
        scores: Foreground scores ``(scans, seeds)``, each training being one fold and seed; scans with NaN are left
            out.
        folds: Fold of every scan ``(scans,)``.

    Returns:
        The components.
    """
    told = np.isfinite(scores).all(axis=1)
    scores, folds = scores[told], folds[told]
    parts = [scores[folds == fold] for fold in np.unique(folds)]
    seeds = scores.shape[1]
    scans = np.array([len(part) for part in parts])
    within = int(np.sum(scans - 1))
    if within < 1:
        return Variance(None, None, None, None)
    # With one seed this is the variance between scans, the rest included.
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
    """Sum over folds of the squares that neither the scan nor the seed explains."""
    left = (part - part.mean(1, keepdims=True) - part.mean(0, keepdims=True) + part.mean() for part in parts)
    return sum(float((square**2).sum()) for square in left)
