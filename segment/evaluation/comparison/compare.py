"""Comparison of several methods on the same scans: means, pairwise tests, ranking, variance and a conclusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.evaluation.comparison.methods import Method, Methods, read_methods
from segment.evaluation.comparison.naming import made_distinct
from segment.evaluation.comparison.notes import different_settings, notes, protocol
from segment.evaluation.comparison.pairs import Design, Tested, corrected, tested_pairs
from segment.evaluation.comparison.ranking import rank
from segment.evaluation.comparison.recipes import recipes
from segment.evaluation.comparison.result import FOREGROUND, Comparison, Estimate, Pair
from segment.evaluation.comparison.wording import conclude
from segment.metrics.metric import MetricInfo
from segment.metrics.standard import LEAD
from segment.statistics.bootstrap import Trainings, bca_intervals, scarce_labels
from segment.statistics.variance import Variance, variance_components
from segment.text import printable

MOST_RESAMPLES = 1_000_000
AUTO = "auto"
MARGIN = 0.005
"""Smallest relevant difference of scores without a unit, such as Dice."""
_VALUES_AT_ONCE = 4_000_000

Margin = float | str | None | Mapping[str, float | str | None]


def compare_runs(
    runs: str | Sequence[str],
    metrics: Sequence[str] = (LEAD.name,),
    by: str | None = None,
    names: Sequence[str] | None = None,
    common: bool = False,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 12345,
    split: str | None = None,
    margin: Margin = AUTO,
) -> tuple[Comparison, ...]:
    """Read finished runs and compare them scan by scan, by every metric.

    Args:
        runs: As for `segment.evaluation.comparison.methods.read_methods`, like `by`, `names` and `common`.
        metrics: Different metric columns of ``scans.csv``, at least one; p is corrected over all of them.
        by: ``run``, ``configuration`` or None.
        names: Names of the methods in order.
        common: If the runs were scored on different scans, compare those that all runs have.
        level: Confidence level of the intervals, in [0.5, 1).
        resamples: Number of resamples of scans, from 100 to 1,000,000.
        seed: Seed of the resamples.
        split: As for `read_methods`: None, or a split such as ``test``.
        margin: Smallest relevant difference in units of the metric; several metrics may have one each, by name.
            ``auto``: `MARGIN` for scores without a unit, none for others; None: none.

    Returns:
        A comparison by every metric, in their order.

    Raises:
        UserError: An argument is out of range, or the runs cannot be read or paired.
    """
    check_arguments(common, level, resamples, seed)
    if not metrics or len(set(metrics)) < len(metrics):
        raise UserError(f"metric=[{','.join(metrics)}]: give different columns of scans.csv, such as [dice,hd95_mm].")
    given = margins_of(margin, metrics)
    read = [read_methods(runs, metric, by, names, common, split) for metric in metrics]
    margins = [smallest_difference(one, methods.metric) for one, methods in zip(given, read, strict=True)]
    return compare_by_metrics(read, level, resamples, seed, margins)


def smallest_difference(margin: float | str | None, metric: MetricInfo) -> float | None:
    """The smallest relevant difference that ``margin`` stands for; None for none."""
    if margin == AUTO:
        return None if metric.unit else MARGIN
    return float(margin) if isinstance(margin, int | float) else None


def margins_of(margin: Any, metrics: Sequence[str]) -> list[float | str | None]:
    """The margin of every metric: a number, ``auto`` or None.

    Raises:
        UserError: It is none of these, or one number for several metrics.
    """
    found = margin if isinstance(margin, Mapping) else dict.fromkeys(metrics, margin)
    if unknown := [name for name in found if name not in metrics]:
        raise UserError(f"margin.{unknown[0]}: is no metric of this comparison, which has {', '.join(metrics)}.")
    for one in found.values():
        if one not in (AUTO, None) and not ((_is(one, float) or _is(one, int)) and one > 0):
            raise UserError(f"margin={margin}: give the smallest relevant difference, such as {MARGIN}, auto or null.")
    if len(metrics) > 1 and not isinstance(margin, Mapping) and margin not in (AUTO, None):
        raise UserError(f"margin={margin}: several metrics have one each: 'margin={{{metrics[0]}: {margin}}}'.")
    return [found.get(name, AUTO) for name in metrics]


def check_arguments(common: Any, level: Any, resamples: Any, seed: Any) -> None:
    """Check arguments of `compare_runs` before anything is read.

    Raises:
        UserError: One is out of range.
    """
    if not _is(level, float) or not 0.5 <= level < 1:
        raise UserError(f"level={level}: give a number of at least 0.5 and below 1, such as 0.95.")
    if not _is(resamples, int) or not 100 <= resamples <= MOST_RESAMPLES:
        raise UserError(f"resamples={resamples}: give a whole number from 100 to {MOST_RESAMPLES}.")
    if not _is(seed, int) or seed < 0:
        raise UserError(f"seed={seed}: give a whole number of at least 0.")
    if not _is(common, bool):
        raise UserError(f"common={common}: give true or false.")


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def compare(
    methods: Methods,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 12345,
    margin: float | None = None,
) -> Comparison:
    """Compare methods scan by scan, or group of scans by group.

    Every pair is tested on the foreground and on every label, as `segment.statistics.differences` describes: difference
    of the means, its interval, p-value and Holm-corrected p-value, equivalence within the margin; besides, Wilcoxon's
    signed-rank test, its effect size and the number of scans won. A difference is significant if corrected test and
    interval agree.

    Args:
        methods: The result of `segment.evaluation.comparison.methods.read_methods`.
        level: Confidence level of the intervals, in (0, 1); ``1 - level`` is the significance level of the tests.
        resamples: Number of resamples and of random sign flips, at least 1.
        seed: Seed of the resamples.
        margin: Smallest relevant difference; None: no test of equivalence.

    Returns:
        The comparison.
    """
    return compare_by_metrics([methods], level, resamples, seed, [margin])[0]


def compare_by_metrics(
    methods: Sequence[Methods],
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 12345,
    margins: Sequence[float | None] = (None,),
) -> tuple[Comparison, ...]:
    """Compare the same methods by several metrics; p is corrected over all of them.

    Args:
        methods: The methods, with their scores by every metric.
        level: As for `compare`, like `resamples` and `seed`.
        resamples: See there.
        seed: See there.
        margins: Smallest relevant difference by every metric.

    Returns:
        A comparison by every metric.
    """
    measured = [_measure(one, level, resamples, seed, own) for one, own in zip(methods, margins, strict=True)]
    found = corrected([one.tested for one in measured])
    family = tuple(one.metric for one in methods)
    return tuple(_comparison(one, own, family, level) for one, own in zip(measured, found, strict=True))


@dataclass(frozen=True, eq=False)
class _Measured:
    """Means, intervals and tests by one metric, before p is corrected.

    Attributes:
        methods: The methods.
        margin: Smallest relevant difference.
        structures: Names of the structures, foreground first.
        means: Means ``(1 + labels, methods)``.
        ends: Their intervals, with a last axis of two.
        resampled: Foreground means of every resample ``(methods, resamples)``.
        scored: Number of scored scans ``(1 + labels, methods)``.
        scarce: Position of every scarce label, and in how many groups it occurs.
        tested: All pairs.
    """

    methods: Methods
    margin: float | None
    structures: tuple[str, ...]
    means: np.ndarray
    ends: np.ndarray
    resampled: np.ndarray
    scored: np.ndarray
    scarce: Mapping[int, int]
    tested: Tested


def _measure(methods: Methods, level: float, resamples: int, seed: int, margin: float | None) -> _Measured:
    """Compute means, their intervals and tests."""
    compared = methods.methods
    structures = tuple(made_distinct([FOREGROUND, *map(printable, compared[0].scores.columns)]))
    first, second = np.triu_indices(len(compared), 1)
    design = Design.of(methods)
    repeats, owner = _repeats(compared)
    trainings = trainings_of(methods, design.groups)
    means, without_one = trainings.means(), trainings.means_without_one()
    units, scarce = _units(trainings)
    ends = np.full((len(structures), len(compared), 2), np.nan)
    pair_ends = np.full((len(structures), len(first), 2), np.nan)
    for place, drawn in trainings.resampled_means(resamples, seed):
        known = units[place] >= 2
        ends[place, known] = bca_intervals(means[place, known], drawn[known], without_one[place, known], level)
        for part in _blocks(np.flatnonzero(known[first] & known[second]), resamples):
            sides = [(table[first[part]] - table[second[part]]) for table in (means[place], drawn, without_one[place])]
            pair_ends[place, part] = bca_intervals(sides[0], sides[1], sides[2], level)
        if place == 0:
            resampled = drawn
    tested = tested_pairs(methods, design, structures, trainings.kept, means, pair_ends, level, margin, resamples)
    scored = _scored(repeats, owner)
    return _Measured(methods, margin, structures, means, ends, resampled, scored, scarce, tested)


def _comparison(
    measured: _Measured, found: tuple[Pair, ...], family: tuple[MetricInfo, ...], level: float
) -> Comparison:
    """The comparison from all that was computed."""
    methods, structures = measured.methods, measured.structures
    compared, names = methods.methods, [method.name for method in methods.methods]
    ranking = rank(names, measured.means[0], measured.resampled, methods, found, level)
    choices = recipes(names, [method.runs for method in compared], methods.differences)
    in_order = {method.name: method for method in compared}
    comparison = Comparison(
        metric=methods.metric,
        level=level,
        margin=measured.margin,
        family=family,
        methods=compared,
        structures=structures,
        estimates=_estimates(methods, measured),
        pairs=found,
        ranking=ranking,
        variances=_variances(compared),
        groups=None if methods.groups is None else len(set(methods.groups)),
        scarce={structures[1 + label]: int(count) for label, count in measured.scarce.items()},
        differences=_by_name(names, methods.differences),
        choices=_by_name(names, choices.rows),
        other_parts=choices.others,
        settings=tuple(different_settings([in_order[name] for name in ranking.names])),
        failed=methods.failed,
        conclusion="",
        protocol=protocol(compared),
        notes=(),
    )
    comparison = replace(comparison, notes=tuple(notes(methods, comparison)))
    return replace(comparison, conclusion=conclude(comparison))


def trainings_of(methods: Methods, groups: np.ndarray | None = None) -> Trainings:
    """The scores of every training of the methods, summed over groups of scans.

    Args:
        methods: The methods.
        groups: Group of every scan; None: each scan by itself.
    """
    repeats, owner = _repeats(methods.methods)
    return Trainings.of(repeats, owner, np.arange(len(repeats)) if groups is None else groups)


def _repeats(methods: Sequence[Method]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of every training ``(scans, trainings, labels)``, and the position of the method of each."""
    repeats = np.stack([table.to_numpy() for method in methods for table in method.repeats], axis=1)
    return repeats, np.repeat(np.arange(len(methods)), [method.seeds for method in methods])


def _units(trainings: Trainings) -> tuple[np.ndarray, dict[int, int]]:
    """Groups with a score of every structure and method, 0 where too few for an interval; and the scarce labels."""
    here = trainings.counts > 0
    methods = range(trainings.owner.max() + 1)
    by_method = np.stack([here[:, trainings.owner == method].any(axis=1) for method in methods], axis=1)
    scored = by_method.sum(axis=0)
    least = scored.min(axis=0)
    scarce = {int(label): int(least[label]) for label in np.flatnonzero(scarce_labels(least, len(here)))}
    foreground = by_method.any(axis=2).sum(axis=0) * (not scarce)
    return np.concatenate([foreground[None], scored.T]), scarce


def _estimates(methods: Methods, found: _Measured) -> dict[str, dict[str, Estimate]]:
    """The score of every method on every structure."""
    estimates: dict[str, dict[str, Estimate]] = {}
    for m, method in enumerate(methods.methods):
        scores = method.scores
        medians = np.array([scores.mean(axis=1).median(), *scores.median()])
        estimates[method.name] = {
            structure: Estimate(
                _number(found.means[s, m]), _interval(found.ends[s, m]), int(found.scored[s, m]), _number(medians[s])
            )
            for s, structure in enumerate(found.structures)
        }
    return estimates


def _by_name(names: Sequence[str], rows: Mapping[str, Sequence[str | None]]) -> dict[str, dict[str, str | None]]:
    return {key: dict(zip(names, row, strict=True)) for key, row in rows.items()}


def _scored(repeats: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Number of scans with a score in any training (1 + labels, methods), foreground first."""
    here = np.isfinite(repeats)
    present = np.stack([here[:, owner == method].any(axis=1) for method in range(owner.max() + 1)], axis=1)
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


def _variances(methods: Sequence[Method]) -> dict[str, Variance]:
    """Variance components of the methods with several folds or seeds."""
    return {
        method.name: variance_components(
            np.stack([table.mean(axis=1).to_numpy() for table in method.repeats], axis=1), method.scan_folds
        )
        for method in methods
        if method.seeds > 1 or len(method.folds) > 1
    }
