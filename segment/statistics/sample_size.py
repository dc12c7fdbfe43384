"""Number of scans that a paired comparison needs to find a difference."""

from __future__ import annotations

from scipy.stats import nct, norm, t

MOST = 1_000_000
POWER = 0.8
"""Usual probability of finding a difference that is there."""


def paired_sample_size(difference: float, sd: float, level: float = 0.95, power: float = POWER) -> int | None:
    """Fewest scans with which a two-sided paired t test finds a difference of means.

    Source: Chow, Shao and Wang, Sample Size Calculations in Clinical Research, 2008, section 3.1; the power is that of
    the noncentral t distribution.

    Args:
        difference: True difference of the means, not 0.
        sd: Standard deviation of the scans' paired differences, at least 0.
        level: Confidence level; ``1 - level`` is the significance level.
        power: Probability of a significant result.

    Returns:
        At least 2; None if more than `MOST` are needed.
    """
    effect = abs(difference) / sd if sd > 0 else float("inf")
    if effect == float("inf"):
        return 2
    # The normal approximation is a lower bound, and close to it.
    n = max(2, int(((norm.ppf((1 + level) / 2) + norm.ppf(power)) / effect) ** 2))
    if n > MOST:
        return None
    while _power(n, effect, level) < power:
        n += 1
    return n


def _power(n: int, effect: float, level: float) -> float:
    """Power of the two-sided one-sample t test."""
    limit = t.ppf((1 + level) / 2, n - 1)
    shift = effect * n**0.5
    return float(nct.sf(limit, n - 1, shift) + nct.cdf(-limit, n - 1, shift))
