"""Bootstrap intervals for means over scans: whole scans are resampled, so labels of a scan stay together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtr, ndtri

_VALUES_AT_ONCE = 4_000_000


def mean_of_means(values: np.ndarray) -> float:
    """Mean over labels of the mean over scans.

    Args:
        values: Scores ``(scans,)`` of one label or ``(scans, labels)``; NaN where there is no score.

    Returns:
        The mean; NaN if there is no score at all. A label without any score is left out.
    """
    table = _as_table(values)
    return float(_means(np.nansum(table, axis=0)[None], np.isfinite(table).sum(axis=0)[None])[0])


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, resamples: int = 10_000, seed: int = 12345
) -> tuple[float, float] | None:
    """Confidence interval of `mean_of_means` by the bias-corrected accelerated (BCa) bootstrap over scans.

    BCa (Efron 1987) rather than plain percentiles, because Dice over scans is skewed (many good scans, a few failures)
    and studies are small: there the percentile interval is biased upwards. If the correction is undefined (all
    resamples on one side of the mean), the percentile interval is returned.

    Args:
        values: Scores ``(scans,)`` of one label or ``(scans, labels)``; NaN where there is no score.
            Scans without any score are left out; a resample without any score of a label leaves out that label.
        level: Confidence level, in (0, 1).
        resamples: Number of resamples, at least 1.
        seed: Random seed; the same scores give the same interval.

    Returns:
        Low and high end; None with fewer than two scored scans, which have no spread.
    """
    table = _as_table(values)
    table = table[np.isfinite(table).any(axis=1)]
    if len(table) < 2:
        return None
    sums, present = np.nan_to_num(table), np.isfinite(table).astype(np.float64)
    blocks = resample_weights(len(table), resamples, seed)
    drawn = np.concatenate([_means(weights @ sums, weights @ present) for weights in blocks])
    without_one = _means(sums.sum(axis=0) - sums, present.sum(axis=0) - present)
    ((low, high),) = bca_intervals(np.array([mean_of_means(table)]), drawn[None], without_one[None], level)
    return float(low), float(high)


def bca_intervals(estimates: np.ndarray, drawn: np.ndarray, without_one: np.ndarray, level: float) -> np.ndarray:
    """Intervals of several statistics from their resamples, by the bias-corrected accelerated bootstrap.

    Args:
        estimates: The statistics ``(P,)``.
        drawn: The statistics of every resample ``(P, resamples)``; NaN where undefined.
        without_one: The statistics with one scan left out (jackknife) ``(P, scans)``; NaN where undefined.
        level: Confidence level, in (0, 1).

    Returns:
        ``(P, 2)`` float64, low and high ends; NaN without any resample.
    """
    ordered = np.sort(drawn, axis=1)  # NaN last
    counts = np.isfinite(ordered).sum(axis=1)
    near = 1e-12 * np.maximum(1.0, np.abs(estimates))[:, None]
    below = (ordered < estimates[:, None] - near).sum(axis=1)
    ties = (np.abs(ordered - estimates[:, None]) <= near).sum(axis=1)
    bias = ndtri((below + ties / 2) / np.maximum(counts, 1))[:, None]
    defined = np.isfinite(without_one)
    centre = np.where(defined, without_one, 0).sum(axis=1) / np.maximum(defined.sum(axis=1), 1)
    shift = np.where(defined, centre[:, None] - without_one, 0)
    spread = np.sum(shift**2, axis=1)
    cubes = np.sum(shift**3, axis=1)
    acceleration = np.divide(cubes, 6 * spread**1.5, out=np.zeros(len(cubes)), where=spread > 1e-24)[:, None]
    tails = np.broadcast_to([(1 - level) / 2, (1 + level) / 2], (len(estimates), 2))
    with np.errstate(invalid="ignore"):
        corrected = bias + ndtri(tails)
        corrected = ndtr(bias + corrected / (1 - acceleration * corrected))
    # If all resamples are on one side of the estimate, the correction is undefined: use plain percentiles.
    tails = np.where(np.isfinite(bias), corrected, tails)
    positions = tails * np.maximum(counts - 1, 0)[:, None]
    lower = np.floor(positions).astype(int)
    upper = np.ceil(positions).astype(int)
    low, high = np.take_along_axis(ordered, lower, 1), np.take_along_axis(ordered, upper, 1)
    return low + (positions - lower) * (high - low)


def structure_means(values: np.ndarray) -> np.ndarray:
    """Means over scans of several methods.

    Args:
        values: Scores ``(scans, methods, labels)``; NaN where there is no score.

    Returns:
        ``(1 + labels, methods)``: `mean_of_means` (the foreground), then the mean of every label; NaN where there is
        no score.
    """
    present = np.isfinite(values)
    return _structures(np.where(present, values, 0).sum(axis=0), present.sum(axis=0))


def structure_means_without_one(values: np.ndarray) -> np.ndarray:
    """`structure_means` with each scan left out in turn.

    Args:
        values: As for `structure_means`.

    Returns:
        ``(1 + labels, methods, scans)``.
    """
    present = np.isfinite(values)
    scores = np.where(present, values, 0)
    means = _structures(scores.sum(axis=0) - scores, present.sum(axis=0) - present)
    return np.moveaxis(means, 1, 2)


def resampled_structure_means(values: np.ndarray, resamples: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """`structure_means` of every resample: the same resamples of scans for all methods and structures.

    Args:
        values: As for `structure_means`.
        resamples: Number of resamples.
        seed: Random seed, as for `bootstrap_interval`.

    Yields:
        Position of the structure in `structure_means`, labels first, the foreground (0) last; means
        ``(methods, resamples)``.
    """
    scans, methods, labels = values.shape
    present = np.isfinite(values)
    scores = np.where(present, values, 0)
    sums, scored = np.zeros((methods, resamples)), np.zeros((methods, resamples))
    at_once = max(1, _VALUES_AT_ONCE // (methods * resamples))
    for first in range(0, labels, at_once):
        part = slice(first, min(first + at_once, labels))
        total, count = (table[:, :, part].reshape(scans, -1).astype(np.float64) for table in (scores, present))
        blocks = [_ratio(weights @ total, weights @ count) for weights in resample_weights(scans, resamples, seed)]
        drawn = np.concatenate(blocks).reshape(resamples, methods, -1).transpose(2, 1, 0)
        for position, means in enumerate(drawn, first + 1):
            defined = np.isfinite(means)
            sums += np.where(defined, means, 0)
            scored += defined
            yield position, np.ascontiguousarray(means)
    yield 0, _ratio(sums, scored)


def resample_weights(scans: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Count of each scan in each resample, in blocks that bound the memory.

    Args:
        scans: Number of scans, drawn with replacement.
        resamples: Number of resamples.
        seed: Random seed.

    Yields:
        ``(resamples of the block, scans)`` float64; deterministic for given arguments.
    """
    generator = np.random.default_rng(seed)
    step = max(1, _VALUES_AT_ONCE // scans)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        draws = generator.integers(0, scans, (rows, scans)) + scans * np.arange(rows)[:, None]
        yield np.bincount(draws.ravel(), minlength=rows * scans).reshape(rows, scans).astype(np.float64)


def _as_table(values: np.ndarray) -> np.ndarray:
    """Scores as (scans, labels) float64."""
    table = np.asarray(values, dtype=np.float64)
    return table[:, None] if table.ndim == 1 else table


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Sums / counts; NaN where the count is 0."""
    return np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)


def _means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over labels (last axis) of sums / counts, leaving out labels without a count; NaN where none is left."""
    means = _ratio(sums, counts)
    defined = np.isfinite(means)
    return _ratio(np.where(defined, means, 0).sum(axis=-1), defined.sum(axis=-1))


def _structures(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Foreground and labels ``(1 + labels, ...)`` from sums and counts ``(..., labels)``."""
    return np.concatenate([_means(sums, counts)[None], np.moveaxis(_ratio(sums, counts), -1, 0)])
