"""Intervals for means over scans, by bootstrap: the scan is what is drawn, so labels of a scan stay together."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

_VALUES_AT_ONCE = 4_000_000


def mean_of_means(values: np.ndarray) -> float:
    """Mean over labels of the mean over scans.

    Args:
        values: Scores ``(scans,)`` of one label or ``(scans, labels)``; NaN where there is no score.

    Returns:
        The mean; NaN when there is no score at all. A label without any score is left out.
    """
    table = _as_table(values)
    return float(_means(np.nansum(table, axis=0)[None], np.isfinite(table).sum(axis=0)[None])[0])


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, resamples: int = 10_000, seed: int = 12345
) -> tuple[float, float] | None:
    """Confidence interval of `mean_of_means` by the bias-corrected accelerated (BCa) bootstrap over scans.

    BCa (Efron 1987) rather than plain percentiles, because Dice over scans leans to one side (many good scans, a few
    failures) and studies are small: there the percentile interval sits too high. Where the correction is not defined
    (all resamples on one side of the mean) the percentile interval is returned.

    Args:
        values: Scores ``(scans,)`` of one label or ``(scans, labels)``; NaN where there is no score.
            Scans without any score are left out; a resample that drew no score of a label leaves out that label.
        level: Probability that the interval is to cover, in (0, 1).
        resamples: Number of resamples, at least 1.
        seed: Seed of the draw; the same scores give the same interval.

    Returns:
        Low and high end; None with fewer than two scored scans, from which no spread can be told.
    """
    table = _as_table(values)
    table = table[np.isfinite(table).any(axis=1)]
    if len(table) < 2:
        return None
    sums, present = np.nan_to_num(table), np.isfinite(table).astype(np.float64)
    estimate = mean_of_means(table)
    drawn = _resampled_means(sums, present, resamples, seed)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])

    tie = np.isclose(drawn, estimate, rtol=0, atol=1e-12 * max(1.0, abs(estimate)))
    bias = ndtri(np.mean((drawn < estimate) & ~tie) + tie.mean() / 2)
    if np.isfinite(bias):
        without_one = _means(sums.sum(axis=0) - sums, present.sum(axis=0) - present)
        without_one = without_one[np.isfinite(without_one)]
        shift = without_one.mean() - without_one if len(without_one) else np.zeros(1)
        spread = np.sum(shift**2)
        acceleration = np.sum(shift**3) / (6 * spread**1.5) if spread > 1e-24 else 0.0
        corrected = bias + ndtri(tails)
        tails = ndtr(bias + corrected / (1 - acceleration * corrected))
    low, high = np.quantile(drawn, tails)
    return float(low), float(high)


def _as_table(values: np.ndarray) -> np.ndarray:
    """Scores as (scans, labels) float64."""
    table = np.asarray(values, dtype=np.float64)
    return table[:, None] if table.ndim == 1 else table


def _means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over labels (last axis) of sums / counts, leaving out labels without a count; NaN where none is left."""
    means = np.divide(sums, counts, out=np.zeros(sums.shape), where=counts > 0)
    scored = (counts > 0).sum(axis=-1)
    return np.divide(means.sum(axis=-1), scored, out=np.full(len(sums), np.nan), where=scored > 0)


def _resampled_means(sums: np.ndarray, present: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """`mean_of_means` of every resample: how often each scan was drawn, times the scores, as one product."""
    generator = np.random.default_rng(seed)
    scans = len(sums)
    step = max(1, _VALUES_AT_ONCE // scans)
    parts = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = generator.integers(0, scans, (rows, scans)) + scans * np.arange(rows)[:, None]
        weights = np.bincount(draws.ravel(), minlength=rows * scans).reshape(rows, scans).astype(np.float64)
        parts.append(_means(weights @ sums, weights @ present))
    return np.concatenate(parts)
