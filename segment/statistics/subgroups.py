"""Scores by subgroup of the scans, such as site or scanner, and the differences between subgroups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segment.statistics.bootstrap import (
    FEWEST_SCANS,
    bca_intervals,
    bootstrap_interval,
    mean_of_means,
    resample_weights,
)
from segment.statistics.paired import holm

_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Subgroup:
    """The scans of one subgroup.

    Attributes:
        name: Its name.
        scans: Scans with any score.
        mean: Mean over labels of the mean over scans; None without a score.
        interval: Bootstrap interval over scans, or over units of dependent scans; None if there are too few.
    """

    name: str
    scans: int
    mean: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class SubgroupDifference:
    """Two subgroups.

    Attributes:
        first: Name of the first.
        second: Name of the second.
        difference: Mean of the first minus that of the second.
        interval: Bootstrap interval, both subgroups resampled; None if either has fewer than `FEWEST_SCANS` units.
        p: Two-sided p-value of the permutation test that the assignment to the two subgroups does not matter.
        p_holm: The same, corrected over all pairs of subgroups.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float] | None
    p: float
    p_holm: float


def subgroups(
    scores: np.ndarray, names: Sequence[str], level: float = 0.95, units: Sequence[str] | None = None
) -> list[Subgroup]:
    """Mean and interval of every subgroup.

    Args:
        scores: ``(scans, labels)``; NaN where there is no score.
        names: Subgroup of every scan.
        level: Level of the intervals.
        units: Patient or specimen of every scan, whose scans are not independent; None if every scan is.

    Returns:
        The subgroups in the order of their names.
    """
    found = []
    for name, own in _parts(names).items():
        values = scores[own]
        mean = mean_of_means(values)
        alone = _by_unit(values, None if units is None else [units[place] for place in own])
        interval = bootstrap_interval(alone, level)
        number = int(np.isfinite(values).any(axis=1).sum())
        found.append(Subgroup(name, number, None if np.isnan(mean) else mean, interval))
    return found


def subgroup_differences(
    scores: np.ndarray,
    names: Sequence[str],
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 12345,
    units: Sequence[str] | None = None,
) -> list[SubgroupDifference]:
    """Differences between all pairs of subgroups that have scores.

    Args:
        scores: As for `subgroups`, like `names` and `units`.
        names: See there.
        level: Level of the intervals.
        resamples: Number of resamples and of permutations.
        seed: Random seed.
        units: See there.
    """
    parts = {}
    for name, own in _parts(names).items():
        values = _by_unit(scores[own], None if units is None else [units[place] for place in own])
        values = values[np.isfinite(values).any(axis=1)]
        if len(values):
            parts[name] = values
    pairs = list(itertools.combinations(parts, 2))
    labels = [_shared_labels(parts[one], parts[other]) for one, other in pairs]
    tested = [
        (pair, parts[pair[0]][:, shared], parts[pair[1]][:, shared])
        for pair, shared in zip(pairs, labels, strict=True)
        if shared.any()
    ]
    p = np.array([_permutation_test(first, second, resamples, seed) for _, first, second in tested])
    return [
        SubgroupDifference(
            *pair, mean_of_means(first) - mean_of_means(second), _interval(first, second, level, resamples, seed),
            float(own), float(corrected),
        )
        for (pair, first, second), own, corrected in zip(tested, p, holm(p), strict=True)
    ]  # fmt: skip


def _parts(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Positions of the scans of every subgroup."""
    array = np.array(names, dtype=object)
    return {name: np.flatnonzero(array == name) for name in sorted(set(names))}


def _by_unit(values: np.ndarray, units: Sequence[str] | None) -> np.ndarray:
    """Mean scores of every unit ``(units, labels)``."""
    if units is None:
        return values
    rows = []
    for own in _parts(units).values():
        scored = np.isfinite(values[own]).sum(axis=0)
        total = np.nansum(values[own], axis=0)
        rows.append(np.divide(total, scored, out=np.full(len(total), np.nan), where=scored > 0))
    return np.array(rows).reshape(len(rows), values.shape[1])


def _shared_labels(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels with a score in both: means over different labels cannot be subtracted."""
    shared: np.ndarray = np.isfinite(first).any(axis=0) & np.isfinite(second).any(axis=0)
    return shared


def _means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`mean_of_means` of the scans with every row of weights; NaN where a label has no scan."""
    present = np.isfinite(values).astype(np.float64)
    sums, counts = weights @ np.nan_to_num(values), weights @ present
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    found: np.ndarray = means.mean(axis=1)
    return found


def _interval(
    first: np.ndarray, second: np.ndarray, level: float, resamples: int, seed: int
) -> tuple[float, float] | None:
    if min(len(first), len(second)) < FEWEST_SCANS:
        return None
    drawn, without = [], []
    for place, values in enumerate((first, second)):
        blocks = resample_weights(len(values), resamples, seed + place)
        drawn.append(np.concatenate([_means(values, weights) for weights in blocks]))
        without.append(_means(values, 1 - np.eye(len(values))))
    means = [mean_of_means(values) for values in (first, second)]
    left_out = np.concatenate([without[0] - means[1], means[0] - without[1]])
    ((low, high),) = bca_intervals(np.array([means[0] - means[1]]), (drawn[0] - drawn[1])[None], left_out[None], level)
    return float(low), float(high)


def _permutation_test(first: np.ndarray, second: np.ndarray, permutations: int, seed: int) -> float:
    """p-value of the difference among random assignments of all scans to two subgroups of these sizes."""
    values, size = np.concatenate([first, second]), len(first)
    seen = abs(mean_of_means(first) - mean_of_means(second)) - 1e-12
    generator = np.random.default_rng(seed)
    exceeding = counted = 0
    step = max(1, _VALUES_AT_ONCE // len(values))
    for start in range(0, permutations, step):
        order = generator.random((min(step, permutations - start), len(values))).argsort(axis=1)
        member = (order < size).astype(np.float64)
        apart = _means(values, member) - _means(values, 1 - member)
        known = np.isfinite(apart)
        exceeding += int((np.abs(apart[known]) >= seen).sum())
        counted += int(known.sum())
    return (exceeding + 1) / (counted + 1)
