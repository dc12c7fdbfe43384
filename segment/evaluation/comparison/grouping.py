"""Finished runs grouped into methods: the folds and seeds of one configuration together, or each run alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segment.errors import UserError, did_you_mean
from segment.evaluation.comparison.naming import is_metric_key, seed_followers
from segment.files import read_mapping
from segment.runs.config import flatten
from segment.runs.folder import RunFolder
from segment.runs.health import Failure, listed
from segment.text import printable

# Keys in which runs of one method may differ: seed, fold, and settings that do not change the numbers.
_NOT_SEPARATING = ("fold", "seed", "data.root", "sampler.workers", "trainer.log_every_n_steps")


def grouped(runs: Sequence[RunFolder], failed: Sequence[Failure], by: str | None) -> list[list[RunFolder]]:
    """The runs of every method, in the order of their first runs."""
    single = [[run] for run in runs]
    if by not in (None, "run", "configuration"):
        near = did_you_mean(str(by), ("run", "configuration"))
        raise UserError(f"by={by}: unknown value.{near} Valid values: run, configuration, null.")
    # Failed runs count as methods that were meant: seeds of one method must not be compared instead of two methods.
    failed_runs = [RunFolder(state.run, pd.DataFrame(), {}, _config(state.run), {}) for state in failed]
    intended = single if by == "run" else _configurations([*runs, *failed_runs])
    groups = [[run for run in group if run not in failed_runs] for group in intended]
    groups = [_without_summary_runs(group) for group in groups if group]
    if len(intended) == 1 and by == "configuration":
        raise UserError(
            f"by=configuration: all {len(runs) + len(failed_runs)} runs have the same configuration, so there "
            "is nothing to compare. by=run compares them one by one."
        )
    if len(intended) == 1:
        groups = single
    if len(groups) < 2:
        raise UserError(too_few(groups, failed))
    return groups


def too_few(groups: Sequence[Sequence[RunFolder]], failed: Sequence[Failure]) -> str:
    """The message if fewer than two methods are left to compare."""
    which = "none of the given runs"
    if groups:
        first, more = printable(groups[0][0].path), len(groups[0]) - 1
        which = f"only {first} and {more} more with its configuration" if more else f"only {first}"
    hints = []
    if not all(state.diverged for state in failed):
        hints.append(" Finish the other runs: the same command resumes a run.")
    if any(state.diverged for state in failed):
        hints.append(" Retrain diverged runs with a smaller optimizer.lr.")
    return (
        f"runs: {which} finished without diverging, but a comparison needs two methods."
        f"{left_out(failed)}{''.join(hints)}"
    )


def _config(run: Path) -> dict[str, Any]:
    """The configuration of a failed run; empty if it cannot be read."""
    try:
        return read_mapping(run / "config.yaml")
    except UserError:
        return {}


def _configurations(runs: Sequence[RunFolder]) -> list[list[RunFolder]]:
    """The runs of every configuration, in the order of their first runs."""
    rows = [flatten(run.config) for run in runs]
    ignored = {*_NOT_SEPARATING, *seed_followers(runs)}
    found: dict[Any, list[RunFolder]] = {}
    for run, row in zip(runs, rows, strict=True):
        # What the plan decided follows from the other keys, unless it was read from a file, which may have been edited.
        follows = row.get("plan.file", "none") == "none"
        own = frozenset(
            (key, str(value))
            for key, value in row.items()
            if key not in ignored and not (follows and key.startswith("planned.")) and not is_metric_key(key)
        )
        found.setdefault(own if run.config else run.path, []).append(run)
    return list(found.values())


def _without_summary_runs(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """Runs without the summary run of ``fold=all``, if its folds are given as well, as by ``runs='runs/*'``."""
    summary_runs = [run for run in runs if run.config.get("fold") == "all"]
    single = {str(run.config.get("seed")) for run in runs if run not in summary_runs}
    return [run for run in runs if run not in summary_runs or str(run.config.get("seed")) not in single]


def by_seed(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
    """The runs of a method by seed."""
    found: dict[str, list[RunFolder]] = {}
    for run in runs:
        found.setdefault(str(run.config.get("seed")), []).append(run)
    return found


def left_out(failed: Sequence[Failure]) -> str:
    """Added to an error that runs left out may explain."""
    return f" Left out: {listed(failed)}." if failed else ""
