"""Ranks of the methods of a comparison: by their means, by their ranks in every scan, by significant differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segment.evaluation.comparison.methods import Methods
from segment.evaluation.comparison.result import FOREGROUND, Pair, Ranking
from segment.statistics.paired import kendall_tau, mean_ranks, method_ranks


def rank(
    names: Sequence[str],
    means: np.ndarray,
    drawn: np.ndarray,
    methods: Methods,
    pairs: Sequence[Pair],
    level: float,
) -> Ranking:
    """Rank the methods on all scans and on every resample.

    Args:
        names: Names of the methods.
        means: Foreground means ``(methods,)``.
        drawn: The same of every resample ``(methods, resamples)``.
        methods: The methods.
        pairs: All pairs.
        level: Level of the intervals of the ranks.
    """
    best = methods.metric.higher_is_better
    drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
    drawn = drawn if drawn.size else means[:, None]
    ranks, resampled = method_ranks(means, best), method_ranks(drawn, best)
    shown = np.stack([_foreground(method.scores.to_numpy()) for method in methods.methods])
    by_scan = mean_ranks(shown, best)
    wins = np.array([_wins(name, pairs, best) for name in names])
    order = np.argsort(ranks, kind="stable")
    tails = [(1 - level) / 2, (1 + level) / 2]
    shares = [np.bincount(resampled[index] - 1, minlength=len(names)) / drawn.shape[1] for index in order]
    tau = kendall_tau(ranks, resampled)
    return Ranking(
        names=tuple(names[index] for index in order),
        ranks=tuple(int(ranks[index]) for index in order),
        intervals=tuple(
            (float(low), float(high))
            for low, high in (np.quantile(resampled[index], tails, method="nearest") for index in order)
        ),
        shares=np.array(shares),
        tau=float(tau) if np.isfinite(tau) else None,
        scan_ranks=tuple(float(by_scan[index]) for index in order),
        wins=tuple(int(wins[index]) for index in order),
    )


def _foreground(scores: np.ndarray) -> np.ndarray:
    """Mean over the labels of every scan ``(scans,)``; NaN without a score."""
    scored = np.isfinite(scores)
    number = scored.sum(axis=1)
    return np.divide(
        np.where(scored, scores, 0).sum(axis=1), number, out=np.full(len(scores), np.nan), where=number > 0
    )


def _wins(name: str, pairs: Sequence[Pair], higher_is_better: bool) -> int:
    """Number of methods that a method is significantly better than."""
    own = [pair if pair.first == name else pair.swapped() for pair in pairs if name in (pair.first, pair.second)]
    sign = 1 if higher_is_better else -1
    return sum(pair.structure == FOREGROUND and pair.significant and sign * (pair.difference or 0) > 0 for pair in own)
