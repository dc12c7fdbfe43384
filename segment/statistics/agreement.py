"""Agreement of two measurements of the same quantity, such as predicted and reference volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import norm, t

FEWEST = 3
"""Fewest subjects for limits of agreement and correlations with their intervals."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Mean difference and limits of agreement, all in the unit of the differences.

    Attributes:
        bias: Mean of the differences.
        low: Lower limit of agreement.
        high: Upper limit.
        bias_interval: Interval of the bias, by Student's t.
        low_interval: Interval of the lower limit.
        high_interval: Interval of the upper limit.
    """

    bias: float
    low: float
    high: float
    bias_interval: Interval
    low_interval: Interval
    high_interval: Interval


@dataclass(frozen=True)
class Correlation:
    """An intraclass correlation and its interval; NaN where nothing varies, or where no interval is defined."""

    value: float
    interval: Interval


def limits_of_agreement(differences: np.ndarray, level: float = 0.95) -> LimitsOfAgreement | None:
    """Limits within which a share `level` of the differences lies, if these are normal.

    Source: Bland and Altman 1999, doi:10.1177/096228029900800204, also for the intervals.

    Args:
        differences: One measurement minus the other ``(subjects,)``, finite.
        level: Share within the limits, and level of the intervals.

    Returns:
        The limits; None with fewer than `FEWEST` subjects.
    """
    n = len(differences)
    if n < FEWEST:
        return None
    bias, sd = float(np.mean(differences)), float(np.std(differences, ddof=1))
    reach = float(norm.ppf((1 + level) / 2))
    quantile = float(t.ppf((1 + level) / 2, n - 1))
    of_bias = quantile * sd / n**0.5
    of_limit = quantile * sd * (1 / n + reach**2 / (2 * (n - 1))) ** 0.5
    low, high = bias - reach * sd, bias + reach * sd
    around = [(value - half, value + half) for value, half in ((bias, of_bias), (low, of_limit), (high, of_limit))]
    return LimitsOfAgreement(bias, low, high, *around)


def intraclass_correlations(values: np.ndarray, level: float = 0.95) -> tuple[Correlation, Correlation] | None:
    """Intraclass correlations of single measurements, of absolute agreement and of consistency.

    ICC(2,1), of raters that are a sample, falls with a difference of the raters' means; ICC(3,1), of these raters
    alone, does not. Source: Shrout and Fleiss 1979, doi:10.1037/0033-2909.86.2.420; intervals as in McGraw and Wong
    1996, doi:10.1037/1082-989X.1.1.30.

    Args:
        values: Measurements ``(subjects, raters)``, finite, of at least two raters.
        level: Level of the intervals.

    Returns:
        ICC(2,1) and ICC(3,1), at most 1; None with fewer than `FEWEST` subjects.
    """
    n, k = values.shape
    if n < FEWEST:
        return None
    total = values.mean()
    rows = k * ((values.mean(axis=1) - total) ** 2).sum() / (n - 1)
    columns = n * ((values.mean(axis=0) - total) ** 2).sum() / (k - 1)
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + total
    rest = float((residuals**2).sum() / ((n - 1) * (k - 1)))
    if rows <= 0:
        undefined = Correlation(np.nan, (np.nan, np.nan))
        return undefined, undefined
    absolute = (rows - rest) / (rows + (k - 1) * rest + k * (columns - rest) / n)
    consistent = (rows - rest) / (rows + (k - 1) * rest)
    return (
        Correlation(float(absolute), _absolute_interval(n, k, (rows, columns, rest), float(absolute), level)),
        Correlation(float(consistent), _consistent_interval(n, k, rows, rest, level)),
    )


def _consistent_interval(n: int, k: int, rows: float, rest: float, level: float) -> Interval:
    """Interval of ICC(3,1)."""
    if rest <= 0:
        return 1.0, 1.0
    tail, freedom = (1 + level) / 2, (n - 1) * (k - 1)
    ratio = rows / rest
    low = ratio / f_distribution.ppf(tail, n - 1, freedom)
    high = ratio * f_distribution.ppf(tail, freedom, n - 1)
    return float((low - 1) / (low + k - 1)), float((high - 1) / (high + k - 1))


def _absolute_interval(n: int, k: int, squares: tuple[float, float, float], value: float, level: float) -> Interval:
    """Interval of ICC(2,1), with Satterthwaite's degrees of freedom of the raters and the rest together."""
    rows, columns, rest = squares
    if rest <= 0 and columns <= 0:
        return 1.0, 1.0
    ratio = columns / rest if rest > 0 else np.inf
    share = k * value * ratio if np.isfinite(ratio) else np.inf
    within = n * (1 + (k - 1) * value) - k * value
    if np.isfinite(share):
        freedom = (k - 1) * (n - 1) * (share + within) ** 2 / ((n - 1) * share**2 + within**2)
    else:
        freedom = float(k - 1)
    tail = (1 + level) / 2
    low, high = f_distribution.ppf(tail, n - 1, freedom), f_distribution.ppf(tail, freedom, n - 1)
    both = k * columns + (k * n - k - n) * rest
    with np.errstate(invalid="ignore"):  # hardly any degree of freedom: no interval
        lower = n * (rows - low * rest) / (low * both + n * rows)
        upper = n * (high * rows - rest) / (both + n * high * rows)
    return float(lower), float(upper)
