"""A comparison within subgroups of the scans, such as sites, and the number of scans that a difference takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.evaluation.comparison.compare import compare_by_metrics
from segment.evaluation.comparison.methods import Method, Methods
from segment.evaluation.comparison.pairing import scan_groups
from segment.evaluation.comparison.result import FOREGROUND, Comparison, Interaction, Subgroups, SubgroupScores
from segment.runs.subgroups import UNKNOWN, checked_subgroups, read_subgroups
from segment.statistics.paired import paired_differences
from segment.statistics.sample_size import POWER, paired_sample_size
from segment.statistics.subgroups import subgroup_differences

_MOST_METHODS = 10  # whose differences from the leader are tested by subgroup


def with_subgroups(
    comparison: Comparison, column: str, table: Path | None, resamples: int = 10_000, seed: int = 12345
) -> Comparison:
    """The comparison, with one within every subgroup of the scans.

    Args:
        comparison: A comparison.
        column: Column of the table that names the subgroup of every scan.
        table: A CSV with one row per scan; None: what the runs recorded of their scans, if the data set is a table.
        resamples: Number of resamples and permutations.
        seed: Their seed.

    Raises:
        UserError: The subgroup of a scan is not known, or there are too many subgroups.
    """
    cases = [case for _, case in comparison.methods[0].scores.index]
    names = _recorded(comparison, column, cases) if table is None else read_subgroups(table, column, cases)
    own = np.array([names[case] for case in cases], dtype=object)
    methods = Methods(comparison.methods, {}, 0, comparison.metric, (), _groups(comparison))
    parts = {name: np.flatnonzero(own == name) for name in sorted(set(own))}
    within = compare_by_metrics(
        [_subset(methods, places) for places in parts.values()], comparison.level, resamples, seed, [None] * len(parts)
    )
    leader, *others = comparison.ranking.names
    scores = tuple(
        SubgroupScores(
            name,
            len(places),
            {method: estimates[FOREGROUND] for method, estimates in one.estimates.items()},
            tuple(one.pair(leader, other) for other in others[:_MOST_METHODS]),
        )
        for (name, places), one in zip(parts.items(), within, strict=True)
    )
    interactions = [
        Interaction(leader, other, apart)
        for other in others[:_MOST_METHODS]
        for apart in subgroup_differences(
            _paired(comparison, leader, other), list(own), comparison.level, resamples, seed, methods.groups
        )
    ]
    return replace(comparison, subgroups=Subgroups(column, scores, tuple(interactions)))


def sample_size_notes(comparison: Comparison, difference: float) -> list[str]:
    """How many scans it takes to find a difference between the leader and every other method.

    Args:
        comparison: A comparison, whose scans show how much the methods' differences vary.
        difference: The difference of the foreground to be found, above 0.
    """
    leader, *others = comparison.ranking.names
    groups, found = _groups(comparison), []
    for other in others[:_MOST_METHODS]:
        values = _paired(comparison, leader, other)[:, 0]
        known = np.isfinite(values)
        if groups is not None:
            members = [known & (np.array(groups) == name) for name in dict.fromkeys(groups)]
            values = np.array([values[member].mean() for member in members if member.any()])
        else:
            values = values[known]
        if len(values) < 2:
            continue
        sd = float(np.std(values, ddof=1))
        size = paired_sample_size(difference, sd, comparison.level)
        unit = "scans" if groups is None else "groups of scans"
        found.append(
            f"A difference of {difference:g} between {leader} and {other} is found with a power of {100 * POWER:.0f} % "
            f"in {'too many' if size is None else f'{size:,}'} {unit} (paired t test; standard deviation of their "
            f"differences {sd:.4f} over {len(values)})."
        )
    return found


def _recorded(comparison: Comparison, column: str, cases: Sequence[str]) -> dict[str, str]:
    """The subgroup of every scan as the runs recorded it."""
    found: dict[str, str] = {}
    for run in (run for method in comparison.methods for run in method.runs):
        for part in ("cases", "test_cases"):
            for case, entry in _mapping(run.provenance.get(part)).items():
                value = _mapping(_mapping(entry).get("about")).get(column.lower())
                if isinstance(value, str):
                    found.setdefault(case, value or UNKNOWN)
    missing = [case for case in cases if case not in found]
    if missing:
        raise UserError(
            f"by={column}: is neither run nor configuration, nor a column that the runs recorded of their scans (such "
            f"as {missing[0]}). Give the table that has this column, table=FILE.csv, one row per scan."
        )
    return checked_subgroups(column, {case: found[case] for case in cases})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _groups(comparison: Comparison) -> tuple[str, ...] | None:
    runs = [run for method in comparison.methods for run in method.runs]
    return scan_groups(runs, list(comparison.methods[0].scores.index))


def _paired(comparison: Comparison, first: str, second: str) -> np.ndarray:
    """Difference of two methods on every scan, the mean over its labels ``(scans, 1)``."""
    named = {method.name: method for method in comparison.methods}
    values = np.stack([named[name].scores.to_numpy() for name in (first, second)], axis=1)
    found, _ = paired_differences(values, np.array([0]), np.array([1]), comparison.metric.perfect)
    return found[:, 0, :1]


def _subset(methods: Methods, places: np.ndarray) -> Methods:
    """The methods on some of their scans."""

    def part(method: Method) -> Method:
        return replace(
            method,
            scores=method.scores.iloc[places],
            repeats=tuple(table.iloc[places] for table in method.repeats),
            scan_folds=method.scan_folds[places],
        )

    groups = None if methods.groups is None else tuple(methods.groups[place] for place in places)
    return replace(methods, methods=tuple(map(part, methods.methods)), groups=groups)
