"""The result of a comparison of runs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from segment.evaluation.comparison.methods import Method
from segment.metrics.metric import MetricInfo
from segment.runs.health import Failure
from segment.statistics.subgroups import SubgroupDifference
from segment.statistics.variance import Variance

FOREGROUND = "foreground"
Scope = Literal["methods", "trainings", "masks"]


@dataclass(frozen=True)
class Estimate:
    """The score of one method on one structure.

    Attributes:
        mean: Mean over scans (for the foreground: its mean over labels); None without any score.
        interval: Bootstrap interval of the mean, low and high end; None with fewer than two scored scans.
        n: Number of scored scans.
        median: Median over scans (for the foreground: of the mean over a scan's labels), seeds averaged.
    """

    mean: float | None
    interval: tuple[float, float] | None
    n: int
    median: float | None = None


@dataclass(frozen=True)
class Pair:
    """Comparison of two methods on one structure.

    Attributes:
        first: Name of the first method.
        second: Name of the second method.
        structure: ``foreground`` or the name of a label.
        first_mean: Mean of the first, as in `Estimate`.
        second_mean: Mean of the second.
        difference: ``first_mean - second_mean``.
        interval: Interval of the difference: paired bootstrap over groups of scans for a statement about trainings or
            masks, Student's t over groups and trainings for one about methods. Not corrected for the number of pairs.
            None with fewer than two groups, and for the foreground if a label occurs in too few of them.
        p: Two-sided p-value of `difference`, see `segment.statistics.differences`; None where it is undefined.
        p_holm: p-value after Holm correction within its family: foreground over all pairs of methods, labels over all
            pairs and labels; over all metrics of the comparison too.
        effect: Matched-pairs rank-biserial correlation (Kerby 2014) in [-1, 1], positive if the first is better; None
            where no scan differs.
        won: Number of scans on which the first is better.
        tied: Number of scans on which they are equal.
        lost: Number of scans on which the second is better.
        n: Number of scans with a difference (possibly 0); the sum of `won`, `tied` and `lost`.
        significant: Whether ``p_holm < 1 - level`` and the interval excludes 0.
        unpaired: Number of scans on which one method correctly left a structure empty that the other invented; its
            missing score counts as perfect in `p_wilcoxon`, `effect`, `won` and `lost`.
        scope: Whom `p`, `interval` and `equivalent` are about: ``methods`` where several seeds or folds show the
            variance of training, else these ``trainings`` or these ``masks``, and other trainings may differ.
        p_wilcoxon: p-value of the Wilcoxon signed-rank test over scans (of the mean over a scan's labels), or
            over groups if there are any; uncorrected.
        p_least: The smallest p-value that the sign flips could have reached.
        p_equivalent: Holm-corrected p-value of two one-sided tests that the true difference is smaller than the margin.
        equivalent: Whether ``p_equivalent < 1 - level``.
        not_worse: Of the first and of the second: whether it is worse by less than the margin (one-sided test).
        opposite: Whether `effect` and `difference` favour different methods, and one of both significantly.
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
    significant: bool
    unpaired: int
    scope: Scope
    p_wilcoxon: float | None
    p_least: float | None
    p_equivalent: float | None
    equivalent: bool
    not_worse: tuple[bool, bool]
    opposite: bool

    def swapped(self) -> Pair:
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
            not_worse=(self.not_worse[1], self.not_worse[0]),
        )


@dataclass(frozen=True)
class SubgroupScores:
    """The foreground of every method on the scans of one subgroup.

    Attributes:
        name: Name of the subgroup.
        scans: Number of its scans.
        estimates: Method -> its score.
        pairs: The leader of the whole comparison with every other method; p is corrected over all of these.
    """

    name: str
    scans: int
    estimates: Mapping[str, Estimate]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Interaction:
    """Whether the difference of two methods differs between two subgroups.

    Attributes:
        first: The leader.
        second: The other method.
        subgroups: The difference in the first subgroup minus that in the second.
    """

    first: str
    second: str
    subgroups: SubgroupDifference


@dataclass(frozen=True)
class Subgroups:
    """A comparison within every subgroup of the scans.

    Attributes:
        column: What the subgroups are called, such as ``site``.
        scores: Every subgroup.
        interactions: Whether differences of methods differ between subgroups.
    """

    column: str
    scores: tuple[SubgroupScores, ...]
    interactions: tuple[Interaction, ...]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The methods ranked by foreground mean, and how stable the ranking is over resamples (Wiesenfarth et al. 2021).

    Attributes:
        names: Names of the methods, best first.
        ranks: Rank of each, from 1; equal methods share the smaller one.
        intervals: Interval of each rank over the resamples, low and high end, at the level of the comparison.
        shares: Float64 ``(method, rank)``: share of resamples in which the method has the rank.
        tau: Mean over resamples of Kendall's tau-b between their ranking and the full one; None where all are equal.
        scan_ranks: Mean over scans of the rank of each by the mean over the scan's labels (rank, then aggregate).
        wins: Number of methods that each is significantly better than (ranking by tests).
    """

    names: tuple[str, ...]
    ranks: tuple[int, ...]
    intervals: tuple[tuple[float, float], ...]
    shares: np.ndarray
    tau: float | None
    scan_ranks: tuple[float, ...]
    wins: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`.

    Attributes:
        metric: Metric of the comparison, a column of ``scans.csv``.
        level: Confidence level of all intervals.
        margin: Smallest relevant difference; None without one.
        family: The metrics whose tests are corrected together; this one and, if several were asked for, the others.
        methods: The methods, in the order given.
        structures: ``foreground``, then the labels.
        estimates: Method -> structure -> its score.
        pairs: Every pair of methods in the order given, each with every structure.
        ranking: The methods ranked by foreground mean.
        variances: Method -> variance components; methods with a single run are left out.
        groups: Number of groups of scans that belong together, such as patients; None if every scan is independent.
        scarce: Labels that occur in too few scans for an interval of the foreground -> in how many groups they do.
        differences: Configuration key -> method -> value, for every key that differs; None where a method has no such
            key.
        choices: The same for readers: the few choices behind these differences, most relevant first.
        other_parts: Parts of the recipes that also differ but are not in the names of the methods, in plain words.
        settings: Prediction settings that differ between the methods, as parts of a sentence.
        failed: Runs that were left out because they diverged or are not finished.
        conclusion: One sentence.
        protocol: One line: number of scans, split, folds, prediction settings.
        notes: Sentences on what limits the comparison, such as too few scans.
        subgroups: The comparison by subgroup of the scans; None without any.
    """

    metric: MetricInfo
    level: float
    margin: float | None
    family: tuple[MetricInfo, ...]
    methods: tuple[Method, ...]
    structures: tuple[str, ...]
    estimates: Mapping[str, Mapping[str, Estimate]]
    pairs: tuple[Pair, ...]
    ranking: Ranking
    variances: Mapping[str, Variance]
    groups: int | None
    scarce: Mapping[str, int]
    differences: Mapping[str, Mapping[str, str | None]]
    choices: Mapping[str, Mapping[str, str | None]]
    other_parts: tuple[str, ...]
    settings: tuple[str, ...]
    failed: tuple[Failure, ...]
    conclusion: str
    protocol: str
    notes: tuple[str, ...]
    subgroups: Subgroups | None = None

    def pair(self, first: str, second: str, structure: str = FOREGROUND) -> Pair:
        """The pair of two methods on one structure, seen from the first; KeyError if there is none."""
        found = self._places.get((first, second, structure))
        return self._places[second, first, structure].swapped() if found is None else found

    @property
    def tests(self) -> int:
        """Number of tests of the foreground that are corrected together."""
        return len(self.methods) * (len(self.methods) - 1) // 2 * len(self.family)

    @functools.cached_property
    def _places(self) -> dict[tuple[str, str, str], Pair]:
        return {(pair.first, pair.second, pair.structure): pair for pair in self.pairs}
