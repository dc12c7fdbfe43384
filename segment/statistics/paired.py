"""Statistics of pairs of methods over the same scans: signed-rank tests, effect sizes, correction, rankings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, wilcoxon

_VALUES_AT_ONCE = 4_000_000
_MANY = 50  # up to this size scipy computes exact p-values
_FEW = 13  # up to this size scipy enumerates all signs if there are ties or zeros
_DECIMALS = 12  # removes differences that are only rounding errors


def paired_differences(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, perfect: float
) -> tuple[np.ndarray, np.ndarray]:
    """Differences of pairs of methods, scan by scan.

    If exactly one of the two has no score, it correctly left the structure empty and the other invented it: the missing
    score counts as perfect. The foreground of a scan is then the mean over its labels.

    Args:
        values: Scores ``(scans, methods, labels)``; NaN where there is no score.
        first: Position ``(P,)`` of the first method of each pair.
        second: Position ``(P,)`` of the second.
        perfect: The best score.

    Returns:
        First minus second ``(scans, P, 1 + labels)``, foreground first, rounded to 12 decimals, NaN where neither has a
        score; and a bool array of the same shape: whether a missing score counted as perfect.
    """
    one, other = values[:, first], values[:, second]
    alone = np.isnan(one) != np.isnan(other)
    one, other = (np.where(alone & np.isnan(side), perfect, side) for side in (one, other))
    labels = one - other
    scored = np.isfinite(labels)
    counts = scored.sum(axis=-1)
    mean = np.where(scored, labels, 0).sum(axis=-1) / np.maximum(counts, 1)
    foreground = np.where(counts > 0, mean, np.nan)
    differences = np.concatenate([foreground[..., None], labels], axis=-1)
    return np.round(differences, _DECIMALS), np.concatenate([alone.any(axis=-1)[..., None], alone], axis=-1)


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """Statistics of P pairs on every structure; arrays ``(P, 1 + labels)``, foreground first.

    Attributes:
        p: Two-sided p-value of `signed_rank_test`; NaN where no scan has a score.
        effect: `rank_biserial`, positive where the first method is better; NaN where no scan differs.
        won: Number of scans on which the first is better.
        tied: Number of scans on which they are equal.
        lost: Number of scans on which the second is better.
        unpaired: Number of scans on which a missing score counted as perfect.
    """

    p: np.ndarray
    effect: np.ndarray
    won: np.ndarray
    tied: np.ndarray
    lost: np.ndarray
    unpaired: np.ndarray


def compare_pairs(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, perfect: float, higher_is_better: bool
) -> PairStatistics:
    """Test pairs of methods on every structure.

    Args:
        values: Scores ``(scans, methods, labels)``; NaN where there is no score.
        first: Position ``(P,)`` of the first method of each pair.
        second: Position ``(P,)`` of the second.
        perfect: The best score.
        higher_is_better: Whether a higher score is better.

    Returns:
        The statistics.
    """
    parts = []
    for part in _blocks(len(first), values.shape[0] * (values.shape[2] + 1)):
        found, filled = paired_differences(values, first[part], second[part], perfect)
        better = (found if higher_is_better else -found).reshape(len(found), -1)
        shape = found.shape[1:]
        counts = [(better > 0).sum(axis=0), (better == 0).sum(axis=0), (better < 0).sum(axis=0)]
        columns = (signed_rank_test(better), rank_biserial(better), *counts)
        parts.append([*(column.reshape(shape) for column in columns), filled.sum(axis=0)])
    return PairStatistics(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def signed_rank_test(differences: np.ndarray) -> np.ndarray:
    """Wilcoxon signed-rank test of many samples, equivalent to ``scipy.stats.wilcoxon`` with its defaults.

    Zeros are dropped. The p-value is exact up to 50 differences without ties or zeros and up to 13 with them, else it
    is the normal approximation.

    Args:
        differences: ``(scans, samples)``; NaN where there is none.

    Returns:
        Two-sided p-values ``(samples,)``; 1 where all differences are zero, NaN where there is none.
    """
    present = np.isfinite(differences)
    n = present.sum(axis=0)
    plain = np.where(present, differences, 0.0)  # the test drops zeros, so missing values are ignored
    nonzero = (plain != 0).sum(axis=0)
    sizes = np.sort(np.where(plain != 0, np.abs(plain), np.nan), axis=0)
    ties = (np.diff(sizes, axis=0) == 0).any(axis=0)
    clean = ~ties & (nonzero == n)
    p = np.where(n > 0, 1.0, np.nan)
    some = nonzero > 0
    exact, enumerated = some & clean & (n <= _MANY), some & ~clean & (n <= _FEW)
    normal = some & ~exact & ~enumerated
    if exact.any():
        p[exact] = wilcoxon(plain[:, exact], method="exact").pvalue
    if normal.any():
        p[normal] = wilcoxon(plain[:, normal], method="asymptotic").pvalue
    for column in np.flatnonzero(enumerated):
        p[column] = _exact_with_ties(plain[:, column])
    return p


def _exact_with_ties(differences: np.ndarray) -> float:
    """The p-value that scipy finds by enumerating all signs, which takes seconds: here by convolution of rank sums."""
    nonzero = differences[differences != 0]
    doubled = np.rint(2 * rankdata(np.abs(nonzero))).astype(int)  # tied ranks may be half-integers
    probabilities = np.ones(1)
    for rank in doubled:
        probabilities = np.convolve(probabilities, np.bincount([0, rank]) / 2)
    favourable = doubled[nonzero > 0].sum()
    return float(min(1.0, 2 * min(probabilities[: favourable + 1].sum(), probabilities[favourable:].sum())))


def rank_biserial(differences: np.ndarray) -> np.ndarray:
    """Matched-pairs rank-biserial correlation (Kerby 2014, doi:10.2466/11.IT.3.1): favourable minus unfavourable ranks.

    Args:
        differences: ``(scans, samples)``; NaN where there is none. Zeros are dropped, as in the test.

    Returns:
        ``(samples,)`` in [-1, 1]: sum of the ranks of positive differences minus that of negative ones, divided by
        the sum of all; NaN where all differences are zero or missing.
    """
    nonzero = np.isfinite(differences) & (differences != 0)
    ranks = np.where(nonzero, rankdata(np.where(nonzero, np.abs(differences), np.inf), axis=0), 0)
    signed = np.where(nonzero, np.sign(differences), 0) * ranks
    total = ranks.sum(axis=0)
    return np.divide(signed.sum(axis=0), total, out=np.full(len(total), np.nan), where=total > 0)


def holm(p: np.ndarray) -> np.ndarray:
    """Correct the p-values of one family of tests by the method of Holm (1979).

    Args:
        p: p-values of any shape; NaN entries are not counted as tests.

    Returns:
        Corrected p-values of the same shape, at most 1.
    """
    flat = p.ravel()
    tested = np.flatnonzero(np.isfinite(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    corrected = np.full(flat.shape, np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(flat[order] * np.arange(len(order), 0, -1)))
    return corrected.reshape(p.shape)


def method_ranks(means: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """Rank methods by their means, from 1; ties share the smaller rank, methods without a mean come last.

    Args:
        means: ``(methods, ...)``.
        higher_is_better: Whether a higher score is better.

    Returns:
        Integer ranks of the same shape.
    """
    worse = -means if higher_is_better else means
    ranks: np.ndarray = rankdata(np.where(np.isnan(worse), np.inf, np.round(worse, _DECIMALS)), method="min", axis=0)
    return ranks.astype(int)


def mean_ranks(scores: np.ndarray, higher_is_better: bool) -> np.ndarray:
    """Mean over scans of the ranks of the methods in each scan (rank, then aggregate; Wiesenfarth et al. 2021).

    Args:
        scores: ``(methods, scans)``; a scan without a score of some method is left out.
        higher_is_better: Whether a higher score is better.

    Returns:
        ``(methods,)`` from 1; NaN without a complete scan. Ties share the mean of their ranks.
    """
    complete = scores[:, np.isfinite(scores).all(axis=0)]
    if not complete.size:
        return np.full(len(scores), np.nan)
    found: np.ndarray = rankdata(-complete if higher_is_better else complete, axis=0).mean(axis=1)
    return found


def kendall_tau(ranks: np.ndarray, drawn: np.ndarray) -> float:
    """Mean Kendall's tau-b between one ranking and many others.

    Args:
        ranks: Ranks of the methods ``(methods,)``.
        drawn: Ranks in every resample ``(methods, resamples)``.

    Returns:
        The mean over the resamples in which not all methods are equal; NaN if there is none.
    """
    agreeing = np.zeros(drawn.shape[1])
    untied = np.zeros(drawn.shape[1])
    untied_here = 0
    for index in range(len(ranks) - 1):
        here = np.sign(ranks[index + 1 :] - ranks[index])[:, None]
        there = np.sign(drawn[index + 1 :] - drawn[index])
        agreeing += (here * there).sum(axis=0)
        untied += (there != 0).sum(axis=0)
        untied_here += int((here != 0).sum())
    defined = untied * untied_here > 0
    return float(np.mean(agreeing[defined] / np.sqrt(untied[defined] * untied_here))) if defined.any() else float("nan")


def _blocks(pairs: int, values_each: int) -> Iterator[slice]:
    """Slices over pairs that bound the memory."""
    step = max(1, _VALUES_AT_ONCE // max(1, values_each))
    for start in range(0, pairs, step):
        yield slice(start, start + step)
