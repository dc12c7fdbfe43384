"""A comparison as pandas tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from segment.evaluation.comparison.result import Comparison


def methods_frame(comparison: Comparison) -> pd.DataFrame:
    """The score of every method on every structure, best method first.

    Returns:
        Index (method, structure), the foreground first; columns rank (of the method by its foreground mean, from 1),
        mean, low and high (ends of its interval), NaN where undefined, and n, the number of scored scans.
    """
    ranks = dict(zip(comparison.ranking.names, comparison.ranking.ranks, strict=True))
    rows, index = [], []
    for method, rank in ranks.items():
        for structure in comparison.structures:
            score = comparison.estimates[method][structure]
            rows.append((rank, score.mean, *(score.interval or (None, None)), score.n))
            index.append((method, structure))
    table = pd.DataFrame(rows, columns=["rank", "mean", "low", "high", "n"])
    table.index = pd.MultiIndex.from_tuples(index, names=["method", "structure"])
    return table.astype(dict.fromkeys(("mean", "low", "high"), "float64"))


def pairs_frame(comparison: Comparison) -> pd.DataFrame:
    """All pairs: one row per (pair, structure), columns as in `Pair`.

    Its interval stands in ``low`` and ``high``, `not_worse` in ``first_not_worse`` and ``second_not_worse``.
    """
    rows = []
    for pair in comparison.pairs:
        row = dict(vars(pair))
        low, high = row.pop("interval") or (None, None)
        place = list(row).index("difference") + 1
        row["first_not_worse"], row["second_not_worse"] = row.pop("not_worse")
        items = list(row.items())
        rows.append(dict([*items[:place], ("low", low), ("high", high), *items[place:]]))
    table = pd.DataFrame(rows)
    scores = ("first_mean", "second_mean", "difference", "low", "high", "effect")
    tests = ("p", "p_holm", "p_wilcoxon", "p_least", "p_equivalent")
    return table.astype(dict.fromkeys((*scores, *tests), "float64"))


def by_metric(frame: Callable[[Comparison], pd.DataFrame], comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One table of several comparisons, whose first level of the index is the metric.

    Args:
        frame: `methods_frame` or `pairs_frame`.
        comparisons: Comparisons of the same runs by different metrics.
    """
    return pd.concat({one.metric.name: frame(one) for one in comparisons}, names=["metric"])
