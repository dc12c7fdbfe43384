"""Every pair of methods on every structure: difference, interval, tests, equivalence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segment.evaluation.comparison.methods import Method, Methods
from segment.evaluation.comparison.result import Pair, Scope
from segment.statistics import differences
from segment.statistics.differences import Contributions, Errors, Variance
from segment.statistics.paired import PairStatistics, compare_pairs, holm, signed_rank_test


@dataclass(frozen=True, eq=False)
class Design:
    """What the trainings of a comparison allow to be said.

    Attributes:
        groups: Group of every scan ``(scans,)``, integers from 0.
        folds: Fold of every group ``(groups,)``; empty if there are too few folds for their variance.
        test_per_train: Test scans of a fold divided by its training scans.
    """

    groups: np.ndarray
    folds: np.ndarray
    test_per_train: float

    @classmethod
    def of(cls, methods: Methods) -> Design:
        """The design of methods scored on the same scans."""
        first = methods.methods[0]
        names = methods.groups if methods.groups is not None else range(len(first.scores))
        _, start, groups = np.unique(np.array(names), return_index=True, return_inverse=True)
        folds = first.scan_folds[start]
        alike = all(np.array_equal(method.scan_folds, first.scan_folds) for method in methods.methods)
        inside = np.array_equal(folds[groups], first.scan_folds)
        number = len(np.unique(folds))
        if number < differences.FEWEST_FOLDS or not alike or not inside:
            return cls(groups, np.zeros(0, int), 0.0)
        shares = [share for method in methods.methods if (share := _test_per_train(method)) is not None]
        return cls(groups, folds, max(shares, default=1 / (number - 1)))

    def errors(
        self, found: Contributions, one: Method, other: Method, training: Variance | None
    ) -> tuple[Scope, Errors]:
        """Whom a statement about two methods is about, and the standard errors for it."""
        if len(self.folds):
            return "methods", differences.by_folds(found, self.folds, self.test_per_train)
        if min(one.seeds, other.seeds) > 1:
            return "methods", differences.by_seeds(found, training)
        masks = any(not run.config for method in (one, other) for run in method.runs) and one.runs and other.runs
        return "masks" if masks else "trainings", differences.by_groups(found)


def _test_per_train(method: Method) -> float | None:
    """Scans of a fold divided by those its training saw; None where the runs do not record their split."""
    found = []
    for run in method.runs:
        split = run.provenance.get("split")
        parts = [split.get(part) for part in ("val", "train")] if isinstance(split, Mapping) else []
        sizes = [len(part) for part in parts if isinstance(part, list)]
        if len(sizes) == 2 and all(sizes):
            found.append(sizes[0] / sizes[1])
    return max(found, default=None)


@dataclass(frozen=True, eq=False)
class Tests:
    """Arrays ``(pairs, 1 + labels)``; `ends` has a last axis (low, high), `not_worse` a first one (first, second)."""

    p: np.ndarray
    least: np.ndarray
    ends: np.ndarray
    equal: np.ndarray
    not_worse: np.ndarray


@dataclass(frozen=True, eq=False)
class Tested:
    """Every pair of methods by one metric, before p is corrected for the number of tests.

    Attributes:
        names: Names of the methods.
        structures: Names of the structures, foreground first.
        means: Means ``(1 + labels, methods)``.
        described: Statistics of single scans.
        tests: Intervals and uncorrected tests.
        scopes: Whom every pair's statement is about.
        best: 1 if a higher score is better, else -1.
        level: Confidence level.
    """

    names: Sequence[str]
    structures: Sequence[str]
    means: np.ndarray
    described: PairStatistics
    tests: Tests
    scopes: Sequence[Scope]
    best: int
    level: float


def corrected(tested: Sequence[Tested]) -> list[tuple[Pair, ...]]:
    """Correct p by the method of Holm: the foreground over all pairs and metrics, labels over all pairs and labels too.

    Args:
        tested: The pairs by every metric, of the same methods and structures.

    Returns:
        The pairs by every metric.
    """
    p = _by_family(np.stack([one.tests.p for one in tested]))
    equal = _by_family(np.stack([one.tests.equal for one in tested]))
    return [tuple(_rows(*parts)) for parts in zip(tested, p, equal, strict=True)]


def tested_pairs(
    methods: Methods,
    design: Design,
    structures: Sequence[str],
    kept: np.ndarray,
    means: np.ndarray,
    drawn_ends: np.ndarray,
    level: float,
    margin: float | None,
    flips: int,
) -> Tested:
    """Test every pair of methods.

    Args:
        methods: The methods.
        design: Their design.
        structures: Names of the structures, foreground first.
        kept: The labels of the foreground ``(labels,)``.
        means: Means ``(1 + labels, methods)``.
        drawn_ends: Bootstrap intervals of the differences over groups of scans ``(1 + labels, pairs, 2)``; NaN where
            there are too few.
        level: Confidence level.
        margin: Smallest relevant difference; None without one.
        flips: Number of random sign flips.
    """
    compared, metric = methods.methods, methods.metric
    both = list(itertools.combinations(range(len(compared)), 2))
    shown = np.stack([method.scores.to_numpy() for method in compared], axis=1)
    first, second = np.array(both).T
    described = compare_pairs(shown, first, second, metric.perfect, metric.higher_is_better)
    found = [contributions_of(compared[one], compared[other], design.groups, kept) for one, other in both]
    if methods.groups is not None:
        described = replace(described, p=_wilcoxon_over_groups(found))
    training = _training(found, len(compared))
    p, least = _sign_flips(found, flips)
    scopes: list[Scope] = []
    ends = np.moveaxis(drawn_ends, 0, 1).copy()
    equal = np.full(p.shape, np.nan)
    not_worse = np.full((2, *p.shape), np.nan)
    best = 1 if metric.higher_is_better else -1
    for place, (own, (one, other)) in enumerate(zip(found, both, strict=True)):
        scope, errors = design.errors(own, compared[one], compared[other], training)
        scopes.append(scope)
        if scope == "methods":
            known = np.isfinite(ends[place]).all(axis=-1, keepdims=True)
            ends[place] = np.where(known, differences.intervals(own.difference, errors, level)[0], np.nan)
            p[place] = np.maximum(p[place], differences.two_sided(own.difference, errors)[0])
        if margin is not None:
            equal[place] = differences.within(own.difference, errors, margin)[0]
            for side, sign in enumerate((best, -best)):
                not_worse[side, place] = differences.at_least(sign * own.difference, errors, margin)[0]
    undefined = ~np.isfinite(ends).all(axis=-1)
    tests = Tests(p, least, ends, np.where(undefined, np.nan, equal), np.where(undefined, np.nan, not_worse))
    names = [method.name for method in compared]
    return Tested(names, structures, means, described, tests, scopes, best, level)


def _wilcoxon_over_groups(found: Sequence[Contributions]) -> np.ndarray:
    """p-values of Wilcoxon's test where scans of a group are not independent ``(pairs, 1 + labels)``."""
    flips = np.concatenate([own.flips for own in found], axis=1)
    return signed_rank_test(np.round(flips, 12).reshape(len(flips), -1)).reshape(flips.shape[1:])


def _training(found: Sequence[Contributions], methods: int) -> Variance | None:
    """Variance between trainings pooled over more than two methods; None where no method has several seeds."""
    means = [found[0].seed_means[0], *(own.seed_means[1] for own in found[: methods - 1])]
    several = any(len(own) > 1 for own in means)
    return differences.training_variance(means) if methods > 2 and several else None


def contributions_of(one: Method, other: Method, groups: np.ndarray, kept: np.ndarray) -> Contributions:
    """The contributions of groups of scans to the difference between two methods."""
    sides = [np.stack([table.to_numpy() for table in method.repeats], axis=1) for method in (one, other)]
    return differences.contributions(sides[0][:, :, None], sides[1][:, :, None], groups, kept)


def _sign_flips(found: Sequence[Contributions], draws: int) -> tuple[np.ndarray, np.ndarray]:
    """p-values of the sign-flip test and the smallest possible ones ``(pairs, 1 + labels)``."""
    flips = np.concatenate([own.flips for own in found], axis=1)
    groups, number, structures = flips.shape
    p, least = differences.sign_flip_test(flips.reshape(groups, -1), draws)
    return p.reshape(number, structures), least.reshape(number, structures)


def _rows(found: Tested, p_holm: np.ndarray, equal: np.ndarray) -> Iterator[Pair]:
    """One `Pair` per pair of methods and structure, from the corrected p-values of difference and equivalence."""
    names, means, described, tests = found.names, found.means, found.described, found.tests
    alpha = round(1 - found.level, 12)
    for index, (one, other) in enumerate(itertools.combinations(range(len(names)), 2)):
        for place, structure in enumerate(found.structures):
            cell = index, place
            ends = tests.ends[cell]
            interval = (float(ends[0]), float(ends[1])) if np.isfinite(ends).all() else None
            counts = [int(table[cell]) for table in (described.won, described.tied, described.lost)]
            outside = interval is not None and (interval[0] > 0 or interval[1] < 0)
            significant = bool(p_holm[cell] < alpha and outside)
            against = described.effect[cell] * found.best * (means[place, one] - means[place, other]) < 0
            yield Pair(
                first=names[one],
                second=names[other],
                structure=structure,
                first_mean=_number(means[place, one]),
                second_mean=_number(means[place, other]),
                difference=_number(means[place, one] - means[place, other]),
                interval=interval,
                p=_number(tests.p[cell]),
                p_holm=_number(p_holm[cell]),
                effect=_number(described.effect[cell]),
                won=counts[0],
                tied=counts[1],
                lost=counts[2],
                n=sum(counts),
                significant=significant,
                unpaired=int(described.unpaired[cell]),
                scope=found.scopes[index],
                p_wilcoxon=_number(described.p[cell]),
                p_least=_number(tests.least[cell]),
                p_equivalent=_number(equal[cell]),
                equivalent=bool(equal[cell] < alpha),
                not_worse=(bool(tests.not_worse[(0, *cell)] < alpha), bool(tests.not_worse[(1, *cell)] < alpha)),
                opposite=bool(against and (significant or described.p[cell] < alpha)),
            )


def _by_family(p: np.ndarray) -> np.ndarray:
    """Holm's correction of ``(metrics, pairs, 1 + labels)``: the foreground and the labels are a family each."""
    return np.concatenate([holm(p[..., :1]), holm(p[..., 1:])], axis=-1)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
