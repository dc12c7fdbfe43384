"""Several methods on several data sets: Friedman's test and the critical difference of Nemenyi (Demšar 2006).

Scores of different data sets are not on one scale, so methods are ranked on each of them, and mean ranks compared.
J. Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import f, rankdata, studentized_range, wilcoxon

_DECIMALS = 12
"""Scores that differ by rounding errors only are equal."""


def dataset_ranks(scores: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """Ranks of the methods on every data set, from 1 for the best; ties share the mean of their ranks.

    Args:
        scores: ``(methods, datasets)``, finite.
        higher_is_better: Whether a higher score is better.

    Returns:
        ``(methods, datasets)`` float64.
    """
    rounded = np.round(scores, _DECIMALS)
    ranks: np.ndarray = rankdata(-rounded if higher_is_better else rounded, axis=0)
    return ranks


def friedman(ranks: np.ndarray) -> float:
    """p-value of Friedman's test that all methods have the same mean rank, in the form of Iman and Davenport (1980).

    Friedman's own chi-squared is too conservative with few methods and data sets (Demšar 2006).

    Args:
        ranks: The result of `dataset_ranks`, at least two methods and two data sets.

    Returns:
        The p-value; 1 if the methods are equal on every data set.
    """
    methods, datasets = ranks.shape
    centred = ranks - (methods + 1) / 2
    total = float((centred**2).sum())
    if total == 0:
        return 1.0
    # Kendall's coefficient of concordance with the correction for ties: 1 if every data set ranks alike.
    concordance = float((centred.sum(axis=1) ** 2).sum()) / (datasets * total)
    if concordance >= 1 - 1e-12:
        return 0.0 if datasets > 1 else 1.0
    statistic = (datasets - 1) * concordance / (1 - concordance)
    return float(f.sf(statistic, methods - 1, (methods - 1) * (datasets - 1)))


def critical_difference(methods: int, datasets: int, level: float) -> float:
    """Nemenyi's critical difference: mean ranks further apart than it differ significantly, all pairs considered.

    Args:
        methods: Number of methods, at least 2.
        datasets: Number of data sets.
        level: One minus the significance level, such as 0.95.
    """
    quantile = studentized_range.ppf(level, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * datasets)))


def cliques(mean_ranks: np.ndarray, critical: float) -> list[tuple[int, int]]:
    """Largest groups of methods whose mean ranks do not differ significantly.

    Args:
        mean_ranks: Ascending ``(methods,)``.
        critical: The critical difference.

    Returns:
        First and last position of every group of at least two methods; no group lies within another.
    """
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(mean_ranks):
        last = int(np.searchsorted(mean_ranks, rank + critical, side="right")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def two_methods(one: np.ndarray, other: np.ndarray) -> float:
    """p-value of Wilcoxon's signed-rank test over data sets, which Demšar recommends for two methods.

    Args:
        one: Scores of the first ``(datasets,)``.
        other: Scores of the second.

    Returns:
        The two-sided p-value; 1 if they are equal on every data set.
    """
    differences = np.round(one - other, _DECIMALS)
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0
