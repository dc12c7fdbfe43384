"""Comparison of several methods on the same scans: means, pairwise tests, ranking, variance and a conclusion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.evaluation.comparison.methods import Method, Methods, read_methods
from segment.evaluation.comparison.naming import made_distinct
from segment.evaluation.comparison.notes import different_settings, notes, protocol
from segment.evaluation.comparison.recipes import recipes
from segment.evaluation.comparison.result import FOREGROUND, Comparison, Estimate, Pair, Ranking
from segment.evaluation.comparison.wording import conclude
from segment.statistics.bootstrap import (
    bca_intervals,
    resampled_structure_means,
    structure_means,
    structure_means_without_one,
)
from segment.statistics.paired import PairStatistics, compare_pairs, holm, kendall_tau, method_ranks
from segment.statistics.variance import Variance, variance_components
from segment.text import printable

MOST_RESAMPLES = 1_000_000
_VALUES_AT_ONCE = 4_000_000


def compare_runs(
    runs: str | Sequence[str],
    metric: str = "dice",
    by: str | None = None,
    names: Sequence[str] | None = None,
    common: bool = False,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 12345,
    split: str | None = None,
) -> Comparison:
    """Read finished runs and compare them scan by scan.

    Args:
        runs: As for `segment.evaluation.comparison.methods.read_methods`, like `metric`, `by`, `names` and `common`.
        metric: Metric column of ``scans.csv``.
        by: ``run``, ``configuration`` or None.
        names: Names of the methods in order.
        common: If the runs were scored on different scans, compare those that all runs have.
        level: Confidence level of the intervals, in [0.5, 1).
        resamples: Number of resamples of scans, from 100 to 1,000,000.
        seed: Seed of the resamples.
        split: As for `read_methods`: None, or a split such as ``test``.

    Raises:
        UserError: An argument is out of range, or the runs cannot be read or paired.
    """
    _check(metric, common, level, resamples, seed)
    return compare(read_methods(runs, metric, by, names, common, split), level, resamples, seed)


def _check(metric: Any, common: Any, level: Any, resamples: Any, seed: Any) -> None:
    """Check the arguments before anything is read."""
    if not _is(level, float) or not 0.5 <= level < 1:
        raise UserError(f"level={level}: give a number of at least 0.5 and below 1, such as 0.95.")
    if not _is(resamples, int) or not 100 <= resamples <= MOST_RESAMPLES:
        raise UserError(f"resamples={resamples}: give a whole number from 100 to {MOST_RESAMPLES}.")
    if not _is(seed, int) or seed < 0:
        raise UserError(f"seed={seed}: give a whole number of at least 0.")
    if not _is(common, bool):
        raise UserError(f"common={common}: give true or false.")
    if not isinstance(metric, str):
        raise UserError(f"metric={metric}: give the name of a column of scans.csv, such as dice.")


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def compare(methods: Methods, level: float = 0.95, resamples: int = 10_000, seed: int = 12345) -> Comparison:
    """Compare methods scan by scan.

    Every pair is tested on the foreground and on every label: difference of the means with its paired BCa bootstrap
    interval (the same resamples of scans for all methods and structures), Wilcoxon signed-rank test with Holm-corrected
    p-value, effect size and number of scans won. A difference is significant if corrected test and interval agree.

    Args:
        methods: The result of `segment.evaluation.comparison.methods.read_methods`.
        level: Confidence level of the intervals, in (0, 1); ``1 - level`` is the significance level of the tests.
        resamples: Number of resamples of scans, at least 1.
        seed: Seed of the resamples.

    Returns:
        The comparison.
    """
    compared, metric = methods.methods, methods.metric
    values = np.stack([method.scores.to_numpy() for method in compared], axis=1)
    names = [method.name for method in compared]
    structures = tuple(made_distinct([FOREGROUND, *map(printable, compared[0].scores.columns)]))
    first, second = np.triu_indices(len(compared), 1)
    means, scored = structure_means(values), _scored(values)
    without_one = structure_means_without_one(values)
    ends = np.full((len(structures), len(compared), 2), np.nan)
    pair_ends = np.full((len(structures), len(first), 2), np.nan)
    for place, drawn in resampled_structure_means(values, resamples, seed):
        known = scored[place] >= 2
        ends[place, known] = bca_intervals(means[place, known], drawn[known], without_one[place, known], level)
        for part in _blocks(np.flatnonzero(known[first] & known[second]), resamples):
            sides = [(table[first[part]] - table[second[part]]) for table in (means[place], drawn, without_one[place])]
            pair_ends[place, part] = bca_intervals(sides[0], sides[1], sides[2], level)
        if place == 0:
            ranking = _ranking(names, means[0], drawn, metric.higher_is_better, level)
    variances = _variances(compared)
    tested = compare_pairs(values, first, second, metric.perfect, metric.higher_is_better)
    found = _pairs(names, structures, means, pair_ends, tested, metric.higher_is_better, level)
    named = dict(zip(names, compared, strict=True))
    choices = recipes(names, [method.runs for method in compared], methods.differences)
    pairs = tuple(replace(pair, unstable=_unstable(pair, named, variances)) for pair in found)
    comparison = Comparison(
        metric=metric,
        level=level,
        methods=compared,
        structures=structures,
        estimates=_estimates(names, structures, means, ends, scored),
        pairs=pairs,
        ranking=ranking,
        variances=variances,
        differences=_by_name(names, methods.differences),
        choices=_by_name(names, choices.rows),
        other_parts=choices.others,
        settings=tuple(different_settings([named[name] for name in ranking.names])),
        failed=methods.failed,
        conclusion="",
        protocol=protocol(compared),
        notes=tuple(notes(methods, pairs)),
    )
    return replace(comparison, conclusion=conclude(comparison))


def _estimates(
    names: Sequence[str], structures: Sequence[str], means: np.ndarray, ends: np.ndarray, scored: np.ndarray
) -> dict[str, dict[str, Estimate]]:
    """The score of every method on every structure, from arrays (structure, method)."""
    return {
        name: {
            structure: Estimate(_number(means[s, m]), _interval(ends[s, m]), int(scored[s, m]))
            for s, structure in enumerate(structures)
        }
        for m, name in enumerate(names)
    }


def _by_name(names: Sequence[str], rows: Mapping[str, Sequence[str | None]]) -> dict[str, dict[str, str | None]]:
    return {key: dict(zip(names, row, strict=True)) for key, row in rows.items()}


def _scored(values: np.ndarray) -> np.ndarray:
    """Number of scored scans (1 + labels, methods), foreground first."""
    present = np.isfinite(values)
    return np.concatenate([present.any(axis=2).sum(axis=0)[None], present.sum(axis=0).T])


def _blocks(positions: np.ndarray, values_each: int) -> Iterator[np.ndarray]:
    """Blocks of positions, small enough to bound the memory."""
    step = max(1, _VALUES_AT_ONCE // values_each)
    for start in range(0, len(positions), step):
        yield positions[start : start + step]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _interval(ends: np.ndarray) -> tuple[float, float] | None:
    return (float(ends[0]), float(ends[1])) if np.isfinite(ends).all() else None


def _ranking(
    names: Sequence[str], means: np.ndarray, drawn: np.ndarray, higher_is_better: bool, level: float
) -> Ranking:
    """Rank the methods on all scans and on every resample."""
    ranks, resampled = method_ranks(means, higher_is_better), method_ranks(drawn, higher_is_better)
    order = np.argsort(ranks, kind="stable")
    tails = [(1 - level) / 2, (1 + level) / 2]
    shares = [np.bincount(resampled[index] - 1, minlength=len(names)) / drawn.shape[1] for index in order]
    return Ranking(
        names=tuple(names[index] for index in order),
        ranks=tuple(int(ranks[index]) for index in order),
        intervals=tuple(
            (float(low), float(high))
            for low, high in (np.quantile(resampled[index], tails, method="nearest") for index in order)
        ),
        shares=np.array(shares),
        tau=_number(kendall_tau(ranks, resampled)),
    )


def _pairs(
    names: Sequence[str],
    structures: Sequence[str],
    means: np.ndarray,
    ends: np.ndarray,
    found: PairStatistics,
    higher_is_better: bool,
    level: float,
) -> tuple[Pair, ...]:
    """Statistics of every pair and structure; `ends` has the shape (structure, pair, low or high)."""
    corrected = np.concatenate([holm(found.p[:, :1]), holm(found.p[:, 1:])], axis=1)
    best = 1 if higher_is_better else -1
    alpha = round(1 - level, 12)
    pairs = []
    for index, (one, other) in enumerate(itertools.combinations(range(len(names)), 2)):
        for place, structure in enumerate(structures):
            interval, effect = _interval(ends[place, index]), _number(found.effect[index, place])
            side = 0 if interval is None else best * ((interval[0] > 0) - (interval[1] < 0))
            counts = [int(table[index, place]) for table in (found.won, found.tied, found.lost)]
            pairs.append(
                Pair(
                    first=names[one],
                    second=names[other],
                    structure=structure,
                    first_mean=_number(means[place, one]),
                    second_mean=_number(means[place, other]),
                    difference=_number(means[place, one] - means[place, other]),
                    interval=interval,
                    p=_number(found.p[index, place]),
                    p_holm=_number(corrected[index, place]),
                    effect=effect,
                    won=counts[0],
                    tied=counts[1],
                    lost=counts[2],
                    n=sum(counts),
                    significant=bool(corrected[index, place] < alpha and effect is not None and side * effect > 0),
                    unpaired=int(found.unpaired[index, place]),
                )
            )
    return tuple(pairs)


def _variances(methods: Sequence[Method]) -> dict[str, Variance]:
    """Variance components of the methods with several folds or seeds."""
    return {
        method.name: variance_components(
            np.stack([table.mean(axis=1).to_numpy() for table in method.repeats], axis=1), method.scan_folds
        )
        for method in methods
        if method.seeds > 1 or len(method.folds) > 1
    }


def _unstable(pair: Pair, methods: Mapping[str, Method], variances: Mapping[str, Variance]) -> bool:
    """Whether a significant foreground difference may be due to training randomness."""
    if pair.structure != FOREGROUND or not pair.significant or pair.difference is None:
        return False
    names = (pair.first, pair.second)
    squares = sum(_seed_error_square(variances[name], methods[name]) for name in names if name in variances)
    return abs(pair.difference) < 2 * math.sqrt(squares)


def _seed_error_square(variance: Variance, method: Method) -> float:
    """Squared standard error of a method's mean over its trainings, due to training randomness."""
    return 0.0 if variance.seed is None else variance.seed / (method.seeds * max(1, len(method.folds)))
