"""Methods to compare: finished runs, read from their folders, grouped by configuration and aligned by scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pandas as pd

from segment.errors import UserError, did_you_mean
from segment.evaluation.comparison.find import find_runs
from segment.evaluation.comparison.grouping import by_seed, grouped, left_out, too_few
from segment.evaluation.comparison.naming import config_differences, method_names
from segment.evaluation.comparison.pairing import (
    Key,
    check_labels,
    check_references,
    check_trained,
    scan_groups,
    scan_table,
    shared_scans,
)
from segment.evaluation.comparison.splits import are_tests, of_split, together
from segment.files import read_mapping
from segment.metrics.metric import MetricInfo
from segment.metrics.standard import LEAD
from segment.runs.folder import RunFolder
from segment.runs.health import Failure, failure
from segment.runs.metrics import KEY, metric_info
from segment.runs.scans import metric_columns, read_scans
from segment.runs.summary import read_summary
from segment.text import printable

MOST_METHODS = 100  # every pair is compared


@dataclass(frozen=True)
class FalsePositives:
    """How often a method puts a structure into scans whose reference has none.

    Attributes:
        empty: Number of scans whose reference does not have the structure.
        rate: Share of them, over all trainings, in which the prediction has it.
        voxels: Mean number of predicted voxels where it does; 0 if it never does.
    """

    empty: int
    rate: float
    voxels: float


@dataclass(frozen=True, eq=False)
class Method:
    """One method: a run, or the folds and seeds of one configuration together.

    Attributes:
        name: Short printable name, unique among the methods.
        runs: The runs of the method. ``config``, ``provenance`` and ``summary`` are empty if the file is missing
            (scores of masks from other programs).
        scores: Float64 ``(scans, labels)`` of the metric, seeds averaged, for showing single scans; index (split, case)
            in the same order for all methods, columns are label names ordered by class index; NaN where no seed has a
            score. A seed that correctly leaves a structure empty which another invents counts as perfect here.
        repeats: The scores of every seed, NaN where it has none. All means, intervals and tests come from these.
        scan_folds: Integer ``(scans,)``: fold in which each scan was scored, -1 for none.
        seeds: Number of seeds.
        folds: The folds, ascending; empty if there are none.
        cost: Mean over the runs of the cost in ``summary.json``; keys that a run lacks are left out. ``energy_source``
            is ``measured`` only if it is for all runs.
        false_positives: By label, for labels that some reference does not have.
    """

    name: str
    runs: tuple[RunFolder, ...]
    scores: pd.DataFrame
    repeats: tuple[pd.DataFrame, ...]
    scan_folds: np.ndarray
    seeds: int
    folds: tuple[int, ...]
    cost: Mapping[str, float | str]
    false_positives: Mapping[str, FalsePositives] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Methods:
    """Methods that can be compared.

    Attributes:
        methods: At least two, scored on the same scans.
        differences: Configuration key -> value in each method, None where it has no such key.
        left_out: Number of scans that are not compared because only some of the runs scored them.
        metric: Metric of the comparison.
        failed: Given runs that diverged or are not finished; they belong to no method.
        groups: Group of every scan, such as its patient, in the order of the scores; None if every scan is independent.
    """

    methods: tuple[Method, ...]
    differences: Mapping[str, Sequence[str | None]]
    left_out: int
    metric: MetricInfo = LEAD
    failed: tuple[Failure, ...] = ()
    groups: tuple[str, ...] | None = None


def read_methods(
    runs: str | Sequence[str],
    metric: str = LEAD.name,
    by: str | None = None,
    names: Sequence[str] | None = None,
    common: bool = False,
    split: str | None = None,
) -> Methods:
    """Read finished runs and group them into methods; runs that diverged or are not finished are left out.

    Args:
        runs: As for `find_runs`. A folder with ``scans.csv`` but without ``config.yaml``, and a single table, are each
            a separate method.
        metric: Metric column of ``scans.csv``; the runs record how to interpret it.
        by: ``run``: each run is a method; ``configuration``: runs that differ only in fold, seed and settings that do
            not change the numbers form one method; None: the latter if it gives at least two methods, else the former.
        names: Names of the methods in order; None: derived from their differences.
        common: If the runs were scored on different scans, compare those that all runs have.
        split: Compare the scans of this split only; see `segment.evaluation.comparison.splits.of_split`.

    Returns:
        The methods.

    Raises:
        UserError: A run cannot be read; or the runs cannot be paired by scan: different labels, scans or references, a
            duplicate scan in a method, or a scan that a run was trained on; or fewer than two methods remain.
    """
    paths = find_runs(runs)
    states = {path: failure(path if path.is_dir() else path.parent) for path in paths if _is_run(path)}
    failed = tuple(state for state in states.values() if state is not None)
    folders = [of_split(_read(path), split) for path in paths if states.get(path) is None]
    if not folders:
        raise UserError(too_few([], failed))
    check_labels(folders)
    for run in folders:
        _check_metric(run, metric)
    info = _shared_info(folders, metric)
    groups = grouped(folders, failed, by)
    folders = [run for group in groups for run in group]
    if len(groups) > MOST_METHODS:
        raise UserError(f"runs: {len(groups)} methods are more than {MOST_METHODS}. Give fewer runs.")
    differences = config_differences(groups)
    titles = method_names(groups, differences) if names is None else _given_names(names, groups, failed)
    seeds = [by_seed(group) if len(group) > 1 else {"": group} for group in groups]
    aligned = [[(folds, _fold_scores(folds, info.name)) for folds in sides.values()] for sides in seeds]
    tables = [(folds, table.index) for method in aligned for folds, table in method]
    try:
        keys = shared_scans(tables, common)
    except UserError as error:
        raise UserError(f"{error}{left_out(failed)}") from None
    check_references(folders, keys)
    check_trained(folders, keys)
    methods = tuple(
        _method(name, group, [(folds, table.loc[keys]) for folds, table in sides], keys, info.perfect)
        for name, group, sides in zip(titles, groups, aligned, strict=True)
    )
    omitted = len(set().union(*(index for _, index in tables))) - len(keys)
    return Methods(methods, differences, omitted, info, failed, scan_groups(folders, keys))


def _is_run(path: Path) -> bool:
    """Whether a path belongs to a run and is not a separate table."""
    return path.is_dir() or path.name == "scans.csv"


def _read(path: Path) -> RunFolder:
    """A run from its files; files that are missing for scores of other programs are empty."""
    table = path if path.is_file() else path / "scans.csv"
    if not table.exists():
        raise UserError(f"{printable(path)} is not a run folder: it has no scans.csv. Give run folders.")
    if table.name != "scans.csv":
        return RunFolder(path, read_scans(table), {}, {}, {})
    folder = table.parent
    config, provenance = (folder / name for name in ("config.yaml", "provenance.json"))
    return RunFolder(
        path=folder,
        scans=read_scans(table),
        summary=read_summary(folder / "summary.json") if (folder / "summary.json").exists() else {},
        config=read_mapping(config) if config.exists() else {},
        provenance=read_mapping(provenance) if provenance.exists() else {},
    )


def _check_metric(run: RunFolder, metric: str) -> None:
    """Refuse a run that lacks the metric or one of its scores."""
    columns = metric_columns(run.scans)
    if metric not in columns:
        raise UserError(
            f"metric={metric}: {printable(run.path)} has no such column.{did_you_mean(metric, columns)} "
            f"It has: {', '.join(map(printable, columns))}."
        )
    missing = run.scans[run.scans[metric].isna() & (run.scans["status"] != "both_empty")]
    if len(missing):
        row = missing.iloc[0]
        raise UserError(
            f"metric={metric}: {printable(run.path)} has no score for {printable(row['name'])} in scan "
            f"{printable(row['case'])}, which is not empty. Score it, or compare by another metric."
        )


def _shared_info(runs: Sequence[RunFolder], metric: str) -> MetricInfo:
    """Information about the metric as the runs record it; derived from its name if no run does."""
    recorded = {metric_info(run.summary, metric): run for run in runs if metric in run.summary.get(KEY, {})}
    if len(recorded) > 1:
        (one, first), (other, second) = list(recorded.items())[:2]
        key = next(key for key in vars(one) if getattr(one, key) != getattr(other, key))
        raise UserError(
            f"metric={metric}: differs between {printable(first.path)} and {printable(second.path)}: {key} is "
            f"{getattr(one, key)} in the first, {getattr(other, key)} in the second. Score both again: segment evaluate"
        )
    return next(iter(recorded), metric_info({}, metric))


def _given_names(names: Sequence[str], groups: Sequence[Sequence[RunFolder]], failed: Sequence[Failure]) -> list[str]:
    """The names that a user gives, one per method."""
    found = [printable(name).strip() for name in names]
    if len(found) != len(groups) or len(set(found)) != len(found) or not all(found):
        methods = ", ".join(printable(group[0].path) for group in groups)
        raise UserError(
            f"names={list(names)}: give {len(groups)} different names, one per method in this order: {methods}."
            f"{left_out(failed)}"
        )
    return found


def _fold_scores(runs: Sequence[RunFolder], metric: str) -> pd.DataFrame:
    """The scores of all folds of one seed: each scan from the fold that validated it, test scans from all of them."""
    runs = [together(runs)] if are_tests(runs) else runs
    owners: dict[Key, RunFolder] = {}
    tables = []
    for run in runs:
        table = scan_table(run, metric)
        for key in table.index:
            if key in owners:
                raise UserError(
                    f"{printable(owners[key].path)} and {printable(run.path)} belong to one method and seed, and both "
                    f"score scan {printable(key[1])}. Leave one of them out, or compare with by=run."
                )
            owners[key] = run
        tables.append(table)
    return pd.concat(tables)


def _method(
    name: str,
    runs: Sequence[RunFolder],
    seeds: Sequence[tuple[Sequence[RunFolder], pd.DataFrame]],
    keys: Sequence[Key],
    perfect: float,
) -> Method:
    """A method from the runs and the scores of every seed."""
    stack = np.stack([table.to_numpy() for _, table in seeds])
    shown = np.where(np.isnan(stack) & np.isfinite(stack).any(axis=0), perfect, stack).mean(axis=0)
    index, columns = seeds[0][1].index, seeds[0][1].columns
    folds: dict[Key, int] = {}
    for run in runs:
        rows = run.scans[["split", "case", "fold"]].drop_duplicates()
        folds |= {(split, case): -1 if pd.isna(fold) else fold for split, case, fold in rows.itertuples(index=False)}
    scan_folds = np.array([folds[key] for key in keys], int)
    return Method(
        name=name,
        runs=tuple(runs),
        scores=pd.DataFrame(shown, index, columns),
        repeats=tuple(pd.DataFrame(values, index, columns) for values in stack),
        scan_folds=scan_folds,
        seeds=len(seeds),
        folds=tuple(sorted({int(fold) for fold in scan_folds if fold >= 0})),
        cost=_cost(runs),
        false_positives=_false_positives([folds for folds, _ in seeds], keys),
    )


def _false_positives(seeds: Sequence[Sequence[RunFolder]], keys: Sequence[Key]) -> dict[str, FalsePositives]:
    """What every seed predicts in scans whose reference does not have the structure."""
    references = _fold_scores(seeds[0], "reference_voxels").loc[keys]
    predicted = np.stack([_fold_scores(folds, "predicted_voxels").loc[keys].to_numpy() for folds in seeds])
    empty = references.to_numpy() == 0
    found = {}
    for place, label in enumerate(references.columns):
        if empty[:, place].any():
            voxels = predicted[:, empty[:, place], place]
            mean = float(voxels[voxels > 0].mean()) if (voxels > 0).any() else 0.0
            found[printable(label)] = FalsePositives(int(empty[:, place].sum()), float((voxels > 0).mean()), mean)
    return found


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _cost(runs: Sequence[RunFolder]) -> dict[str, float | str]:
    """Mean cost per run, for the keys that all runs record."""
    costs = [run.summary.get("cost") for run in runs]
    tables = [cost if isinstance(cost, Mapping) else {} for cost in costs]
    found: dict[str, float | str] = {}
    for key in tables[0]:
        values = [table.get(key) for table in tables]
        numbers = [float(value) for value in values if _is_number(value)]
        if len(numbers) == len(values):
            found[key] = float(np.mean(numbers))
    sources = {table.get("energy_source") for table in tables}
    if "energy_kwh" in found:
        found["energy_source"] = "measured" if sources == {"measured"} else "estimated"
    return found
