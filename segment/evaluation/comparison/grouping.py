"""Finished runs grouped into methods: the folds and seeds of one configuration together, or each run alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segment.errors import UserError, did_you_mean
from segment.evaluation.comparison.naming import seed_followers
from segment.files import read_mapping
from segment.runs import settings
from segment.runs.folder import RunFolder
from segment.runs.health import Failure, listed
from segment.text import printable

_REPEATED = ("fold", "seed")  # keys in which runs of one method differ, besides those that do not change the numbers


def grouped(runs: Sequence[RunFolder], failed: Sequence[Failure], by: str | None) -> list[list[RunFolder]]:
    """The runs of every method, in the order of their first runs."""
    single = [[run] for run in runs]
    if by not in (None, "run", "configuration"):
        near = did_you_mean(str(by), ("run", "configuration", "dataset"))
        raise UserError(f"by={by}: unknown value.{near} Valid values: run, configuration, dataset, null.")
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
    ignored = {*_REPEATED, *seed_followers(runs)}
    equal: dict[Any, list[RunFolder]] = {}
    for run in runs:
        own = frozenset(_separating(run.config, ignored).items())
        equal.setdefault(own if run.config else run.path, []).append(run)
    found: list[list[list[RunFolder]]] = []
    rows = {group[0].path: _separating(group[0].config, ignored) for group in equal.values()}
    for group in equal.values():
        same = (
            groups
            for groups in found
            if all(_differ_by_version(group[0], other, rows[group[0].path], rows[other.path]) for other, *_ in groups)
        )
        if (groups := next(same, None)) is not None:
            groups.append(group)
        else:
            found.append([group])
    place = {run.path: index for index, run in enumerate(runs)}
    return [sorted((run for group in groups for run in group), key=lambda run: place[run.path]) for groups in found]


def _separating(config: Mapping[str, Any], ignored: Collection[str]) -> dict[str, str]:
    """The values that make a configuration another one; a missing key counts as null."""
    row = settings.values(config)
    # What the plan decided follows from the other keys, unless it was read from a file, which may have been edited.
    follows = row.get("plan.file", settings.NULL) == settings.NULL
    return {
        key: value
        for key, value in row.items()
        if value not in (settings.NULL, "[]")
        and key not in ignored
        and not (follows and key.startswith("planned."))
        and not settings.is_free(key)
    }


def _differ_by_version(one: RunFolder, other: RunFolder, row: Mapping[str, str], there: Mapping[str, str]) -> bool:
    """Whether two configurations differ only because different versions of the code composed them.

    That is so if the same choices were made and only one version knows the keys that differ, and nobody set them. What
    a new key stands for by default is then what older versions did.
    """
    codes = [_code(run) for run in (one, other)]
    if None in codes or codes[0] == codes[1]:
        return False
    choices = [dict(run.provenance.get("choices") or {}) for run in (one, other)]
    if any(choices[0][group] != choices[1][group] for group in choices[0].keys() & choices[1].keys()):
        return False
    different = {key for key in row.keys() | there.keys() if row.get(key) != there.get(key)}
    known = [{key for key, _ in settings.leaves(run.config)} for run in (one, other)]
    given = [*_set_keys(one), *_set_keys(other)]
    return different.isdisjoint((known[0] & known[1]) | settings.ADDED.keys()) and not any(
        key == own or key.startswith(f"{own}.") for own in given for key in different
    )


def _code(run: RunFolder) -> tuple[str, ...] | None:
    """The version and commit of the code that made a run; None if it does not record them, or not its overrides."""
    code, versions = (run.provenance.get(key) for key in ("code", "versions"))
    if not (isinstance(code, Mapping) and isinstance(versions, Mapping) and "overrides" in run.provenance):
        return None
    return str(versions.get("segment")), str(code.get("commit"))


def _set_keys(run: RunFolder) -> set[str]:
    """The keys that the command line of a run set."""
    return {str(override).lstrip("+~").partition("=")[0] for override in run.provenance.get("overrides") or ()}


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
