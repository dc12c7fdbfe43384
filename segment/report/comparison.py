"""The comparison of several methods on the same scans: means, pairs, ranking, variance, and what follows from them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segment.report.conclusion import conclude
from segment.report.files import printable
from segment.report.health import Failure
from segment.report.methods import Method, Methods
from segment.report.naming import unlike
from segment.report.notes import different_settings, notes, protocol
from segment.report.paired import PairStatistics, compare_pairs, holm, kendall_tau, lower_is_better, method_ranks
from segment.report.recipes import recipes
from segment.report.statistics import (
    bca_intervals,
    resampled_structure_means,
    structure_means,
    structure_means_without_one,
)
from segment.report.variance import Variance, variance_components

FOREGROUND = "foreground"
_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Estimate:
    """The score of one method on one structure.

    Attributes:
        mean: Mean over scans (for the foreground: mean over labels of it); None without any score.
        interval: Its bootstrap interval, low and high end; None with fewer than two scored scans.
        n: Number of scored scans.
    """

    mean: float | None
    interval: tuple[float, float] | None
    n: int


@dataclass(frozen=True)
class Pair:
    """Two methods on one structure.

    Attributes:
        first: Name of the one method.
        second: Name of the other.
        structure: ``foreground`` or the name of a label.
        first_mean: Mean of the first, as in `Estimate`.
        second_mean: Mean of the second.
        difference: ``first_mean - second_mean``.
        interval: Paired bootstrap interval of the difference; None with fewer than two scored scans.
        p: Wilcoxon signed-rank test over scans, two-sided; None where no scan has a score.
        p_holm: The same, corrected after Holm within its family: foreground over all pairs of methods, labels over all
            pairs and labels.
        effect: Matched-pairs rank-biserial correlation (Kerby 2014) in [-1, 1], positive where the first is the better;
            None where no scan differs.
        won: Scans on which the first is the better.
        tied: Scans on which they are equal.
        lost: Scans on which the second is the better.
        n: Scans with a difference; the sum of the three.
        shown: Whether a difference is shown: ``p_holm < 1 - level``, and the interval lies on the same side of 0.
        unpaired: Scans on which one method rightly left a structure empty that the other invented; its missing score
            counts as perfect in the test and in `won` and `lost`.
        doubtful: Whether a foreground difference is shown that is less than twice its standard error over seeds, so
            that other seeds may turn it round; False where no method has several seeds.
    """

    first: str
    second: str
    structure: str
    first_mean: float | None
    second_mean: float | None
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    effect: float | None
    won: int
    tied: int
    lost: int
    n: int
    shown: bool
    unpaired: int
    doubtful: bool = False

    def turned(self) -> Pair:
        """The same pair, seen from the second method."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            first_mean=self.second_mean,
            second_mean=self.first_mean,
            difference=None if self.difference is None else -self.difference,
            interval=None if self.interval is None else (-self.interval[1], -self.interval[0]),
            effect=None if self.effect is None else -self.effect,
            won=self.lost,
            lost=self.won,
        )


@dataclass(frozen=True, eq=False)
class Ranking:
    """The methods by foreground mean and how far that order holds when other scans are drawn (Wiesenfarth et al. 2021).

    Attributes:
        names: Names of the methods, best first.
        ranks: Rank of each, from 1; equal methods share the smaller one.
        intervals: Low and high end of each one's rank over the resamples, at the level of the comparison.
        shares: Float64 ``(method, rank)``: share of the resamples in which the method took the rank.
        tau: Mean over resamples of Kendall's tau-b between their ranking and the full one; None where all are equal.
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    intervals: tuple[tuple[float, float], ...]
    shares: np.ndarray
    tau: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` finds.

    Attributes:
        metric: Column of ``scans.csv``.
        level: Level of all intervals.
        methods: The methods, in the order given.
        structures: ``foreground``, then the labels.
        estimates: Method -> structure -> its score.
        pairs: Every pair of methods in the order given, each with every structure.
        ranking: The methods by foreground mean.
        variances: Method -> components; methods of one run are left out.
        differences: Configuration key -> method -> value, for every key that differs; None where a method has no such
            key.
        choices: The same for people: the few choices that these come from, what a reader asks first in front.
        other_parts: Parts of the recipes that differ beside what the methods are named after, in plain words.
        settings: In what the predictions of the methods were made differently, as parts of a sentence.
        failed: The runs that were given and left out as no result.
        conclusion: One sentence.
        protocol: One line: number of scans, split, folds, what they were predicted with.
        notes: Sentences on what limits the comparison, such as too few scans.
    """

    metric: str
    level: float
    methods: tuple[Method, ...]
    structures: tuple[str, ...]
    estimates: Mapping[str, Mapping[str, Estimate]]
    pairs: tuple[Pair, ...]
    ranking: Ranking
    variances: Mapping[str, Variance]
    differences: Mapping[str, Mapping[str, str | None]]
    choices: Mapping[str, Mapping[str, str | None]]
    other_parts: tuple[str, ...]
    settings: tuple[str, ...]
    failed: tuple[Failure, ...]
    conclusion: str
    protocol: str
    notes: tuple[str, ...]

    def pair(self, first: str, second: str, structure: str = FOREGROUND) -> Pair:
        """The pair of two methods on one structure, seen from the first; KeyError where there is none."""
        found = self._places.get((first, second, structure))
        return self._places[second, first, structure].turned() if found is None else found

    @functools.cached_property
    def _places(self) -> dict[tuple[str, str, str], Pair]:
        return {(pair.first, pair.second, pair.structure): pair for pair in self.pairs}


def compare(
    methods: Methods, metric: str = "dice", level: float = 0.95, resamples: int = 10_000, seed: int = 12345
) -> Comparison:
    """Compare methods scan by scan.

    Every pair is tested on the foreground and on every label: difference of the means with its paired BCa bootstrap
    interval (the same resamples of scans for all methods and structures), Wilcoxon's signed-rank test, its p corrected
    after Holm, effect size and scans won. A difference is shown where the corrected test and the interval agree.

    Args:
        methods: What `segment.report.methods.read_methods` returns.
        metric: The metric that was read; less is better where it ends in ``_mm``.
        level: Level of the intervals, in (0, 1); ``1 - level`` is that of the tests.
        resamples: Number of resamples of scans, at least 1.
        seed: Seed of the resamples.

    Returns:
        The comparison.
    """
    compared = methods.methods
    values = np.stack([method.scores.to_numpy() for method in compared], axis=1)
    names = [method.name for method in compared]
    structures = tuple(unlike([FOREGROUND, *map(printable, compared[0].scores.columns)]))
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
            ranking = _ranking(names, means[0], drawn, metric, level)
    variances = _variances(compared)
    found = _pairs(names, structures, means, pair_ends, compare_pairs(values, first, second, metric), metric, level)
    named = dict(zip(names, compared, strict=True))
    found_recipes = recipes(names, [method.runs for method in compared], methods.differences)
    pairs = tuple(replace(pair, doubtful=_doubtful(pair, named, variances)) for pair in found)
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
        choices=_by_name(names, found_recipes.rows),
        other_parts=found_recipes.others,
        settings=tuple(different_settings([named[name] for name in ranking.names])),
        failed=methods.failed,
        conclusion="",
        protocol=protocol(compared),
        notes=tuple(notes(methods, pairs, metric)),
    )
    return replace(comparison, conclusion=conclude(comparison))


def _estimates(
    names: Sequence[str], structures: Sequence[str], means: np.ndarray, ends: np.ndarray, scored: np.ndarray
) -> dict[str, dict[str, Estimate]]:
    """The score of every method on every structure, of arrays (structure, method)."""
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
    told = np.isfinite(values)
    return np.concatenate([told.any(axis=2).sum(axis=0)[None], told.sum(axis=0).T])


def _blocks(positions: np.ndarray, values_of_one: int) -> Iterator[np.ndarray]:
    """Parts of many positions that bound the memory."""
    step = max(1, _VALUES_AT_ONCE // values_of_one)
    for start in range(0, len(positions), step):
        yield positions[start : start + step]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _interval(ends: np.ndarray) -> tuple[float, float] | None:
    return (float(ends[0]), float(ends[1])) if np.isfinite(ends).all() else None


def _ranking(names: Sequence[str], means: np.ndarray, drawn: np.ndarray, metric: str, level: float) -> Ranking:
    """Rank the methods, in all scans and in every resample."""
    ranks, resampled = method_ranks(means, metric), method_ranks(drawn, metric)
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
    metric: str,
    level: float,
) -> tuple[Pair, ...]:
    """Put together what is known of every pair and structure; `ends` are those of (structure, pair, low or high)."""
    corrected = np.concatenate([holm(found.p[:, :1]), holm(found.p[:, 1:])], axis=1)
    best = -1 if lower_is_better(metric) else 1
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
                    shown=bool(corrected[index, place] < alpha and effect is not None and side * effect > 0),
                    unpaired=int(found.unpaired[index, place]),
                )
            )
    return tuple(pairs)


def _variances(methods: Sequence[Method]) -> dict[str, Variance]:
    """Components of those methods that have several folds or seeds."""
    return {
        method.name: variance_components(
            np.stack([table.mean(axis=1).to_numpy() for table in method.repeats], axis=1), method.scan_folds
        )
        for method in methods
        if method.seeds > 1 or len(method.folds) > 1
    }


def _doubtful(pair: Pair, methods: Mapping[str, Method], variances: Mapping[str, Variance]) -> bool:
    """Whether a difference that is shown on the foreground may be the chance of training."""
    if pair.structure != FOREGROUND or not pair.shown or pair.difference is None:
        return False
    names = (pair.first, pair.second)
    squares = sum(_seed_square(variances[name], methods[name]) for name in names if name in variances)
    return abs(pair.difference) < 2 * math.sqrt(squares)


def _seed_square(variance: Variance, method: Method) -> float:
    """Square of the standard error that the chance of training leaves in a method's mean over its trainings."""
    return 0.0 if variance.seed is None else variance.seed / (method.seeds * max(1, len(method.folds)))
