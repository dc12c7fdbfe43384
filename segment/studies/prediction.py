"""How far measured and published figures may lie apart by chance: the standard error of their difference.

A training t scores scan i with ``mean + scan_i + training_t + rest_it``. Two figures of one recipe differ by both
trainings and, unless the test scans are the same, by both samples of scans; each is counted once:

- **Folds, with a published figure of each** (the same scans): the variance of the folds' differences, which holds both
  trainings and no scans, divided by the folds.
- **Folds, with a published mean**: the variance between our folds, once for our mean and once for theirs. It holds the
  folds' scans, so it is right if theirs are other scans, and too large if they are the same; then, with several seeds
  of each fold, the variance between a fold's seeds takes its place.
- **Seeds on one test set**: the variance between seeds, divided by the seeds for our mean, and once more for the
  published figure, which is one training. If theirs are other scans, the variance over scans divided by their number is
  added twice (as many scans are assumed there). It holds the rest as well, which the seeds hold too, so the interval is
  slightly too wide; its degrees of freedom are Satterthwaite's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from segment.statistics.differences import Errors
from segment.studies.figures import Measured


def paired_folds(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, float]) -> tuple[float, Errors]:
    """Measured minus published figure over folds of the same scans, and its error.

    Args:
        ours: Fold -> the value of each seed; at least two folds.
        theirs: Fold -> the published value; has the folds of `ours`.
    """
    found = np.array([np.mean(values) - theirs[fold] for fold, values in ours.items()])
    return float(found.mean()), _errors(found.var(ddof=1) / len(found), len(found) - 1)


def folds(ours: Mapping[str, Sequence[float]], published: float, same_scans: bool) -> tuple[float, Errors]:
    """Mean over folds minus a published mean over as many folds, and its error.

    Args:
        ours: Fold -> the value of each seed; at least two folds.
        published: The published mean.
        same_scans: Whether both were tested on the same scans.
    """
    means = np.array([np.mean(values) for values in ours.values()])
    seeds = min(map(len, ours.values()))
    if same_scans and seeds > 1:
        training = np.mean([np.var(values, ddof=1) for values in ours.values()])
        square, freedom = training * (1 / seeds + 1) / len(means), len(means) * (seeds - 1)
    else:
        square, freedom = 2 * means.var(ddof=1) / len(means), len(means) - 1
    return float(means.mean()) - published, _errors(square, freedom)


def seeds(rows: Sequence[Measured], published: float, same_scans: bool) -> tuple[float, Errors]:
    """Mean over seeds of one test set minus a published figure of one training, and its error.

    Args:
        rows: A row with a value for each seed; at least two.
        published: The published figure.
        same_scans: Whether both were tested on the same scans.
    """
    values = np.array([row.value for row in rows], float)
    training, freedom = values.var(ddof=1) * (1 / len(values) + 1), len(values) - 1.0
    sampling, scans = 0.0, 2
    if not same_scans:
        scored = [(row.sd**2, row.scans) for row in rows if row.sd is not None and row.scans > 1]
        sampling = 2 * float(np.mean([square / count for square, count in scored])) if scored else np.inf
        scans = min((count for _, count in scored), default=2)
    square = training + sampling
    if 0 < sampling < np.inf:
        freedom = square**2 / (training**2 / freedom + sampling**2 / (scans - 1))
    return float(values.mean()) - published, _errors(square, freedom)


def _errors(square: float, freedom: float) -> Errors:
    return Errors(np.array(np.sqrt(square)), np.array(float(freedom)))
