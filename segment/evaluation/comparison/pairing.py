"""Checks before the scores of runs are paired by scan: same labels, scans and references, no training scans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segment.errors import UserError
from segment.runs.folder import RunFolder
from segment.runs.scans import TEST, scan_rows
from segment.text import printable

Key = tuple[str, str]  # split and case
_FEW = 3


def scan_table(run: RunFolder, column: str) -> pd.DataFrame:
    """One column of a run's table of scans, one row per scan.

    Args:
        run: The run.
        column: A metric column, ``reference_voxels`` or ``predicted_voxels``.

    Returns:
        Float64 ``(scans, labels)``, index (split, case), columns are label names ordered by class index.

    Raises:
        UserError: A scan appears in two folds.
    """
    table = scan_rows(run.scans, column).droplevel("fold")
    duplicated = table.index[table.index.duplicated()]
    if len(duplicated):
        raise UserError(
            f"{printable(run.path)}: scan {printable(duplicated[0][1])} of split {printable(duplicated[0][0])} appears "
            "in two folds. Each scan is compared once; give a run that scores it once."
        )
    return table


def scan_groups(runs: Sequence[RunFolder], keys: Sequence[Key]) -> tuple[str, ...] | None:
    """The group of every scan, such as its patient.

    Args:
        runs: All runs; the first that records the group of a scan counts.
        keys: The scans that are compared.

    Returns:
        Names in the order of `keys`; a scan without a group is one of its own. None if there is no group at all.
    """
    found: dict[Key, str] = {}
    for run in runs:
        if "group" in run.scans:
            rows = run.scans.loc[run.scans["group"] != "", ["split", "case", "group"]].drop_duplicates()
            for split, case, group in rows.itertuples(index=False):
                found.setdefault((split, case), group)
    named = set(found.values())
    alone = {key: case if case not in named else f"{case} alone" for key in keys for case in (key[1],)}
    return tuple(found.get(key, alone[key]) for key in keys) if found else None


def check_labels(runs: Sequence[RunFolder]) -> None:
    """Refuse runs whose label names or class indices differ from those of the first run.

    Raises:
        UserError: Labels differ between two runs, or a run has no scans.
    """
    first: dict[int, str] = {}
    for run in runs:
        rows = run.scans[["label", "name"]].drop_duplicates()
        labels = dict(zip(rows["label"].tolist(), rows["name"].tolist(), strict=True))
        if not labels:
            raise UserError(f"{printable(run.path)}: scans.csv contains no scans, so there is nothing to compare.")
        first = first or labels
        number = next((n for n in sorted(first.keys() | labels.keys()) if first.get(n) != labels.get(n)), None)
        if number is not None:
            values = [repr(printable(names[number])) if number in names else "missing" for names in (first, labels)]
            raise UserError(
                f"{printable(runs[0].path)} and {printable(run.path)} do not have the same labels: label {number} is "
                f"{values[0]} in the first and {values[1]} in the second. Compare runs with the same labels."
            )


def shared_scans(tables: Sequence[tuple[Sequence[RunFolder], Iterable[Key]]], common: bool) -> list[Key]:
    """The scans that are compared.

    Args:
        tables: Runs that belong together (the folds of one seed of one method), and the (split, case) they score.
        common: If the sets differ, compare only the scans that all of them have.

    Returns:
        (split, case), sorted.

    Raises:
        UserError: The sets differ and `common` is not set, or they have no scan in common.
    """
    sets = [(runs, set(keys)) for runs, keys in tables]
    everything: set[Key] = set().union(*(keys for _, keys in sets))
    shared = everything.intersection(*(keys for _, keys in sets))
    incomplete = next(((runs, everything - keys) for runs, keys in sets if keys != everything), None)
    if incomplete is None or (common and shared):
        return sorted(shared)
    runs, missing = incomplete
    scan = min(missing)
    owner, owned = next((runs, keys) for runs, keys in sets if scan in keys)
    own = next(keys for other, keys in sets if other is runs)
    if {case for _, case in own} == {case for _, case in owned} and not own & owned:
        splits = [", ".join(sorted({printable(split) for split, _ in keys})) for keys in (owned, own)]
        raise UserError(
            f"{_paths(owner)} and {_paths(runs)} score the same scans, but as split {splits[0]} and split {splits[1]}. "
            "Score both under the same split name: segment evaluate ... split=NAME"
        )
    only = f"{_paths(runs)} lacks {_first_few(missing)} that other runs have, such as {_paths(owner)}"
    if not shared:
        raise UserError(f"No scan was scored in all runs: {only}. Compare runs on the same fold or test set.")
    raise UserError(
        f"The runs were not scored on the same scans: {only}. Score them on the same scans, or set common=true to "
        f"compare the {len(shared)} that all have."
    )


def check_references(runs: Sequence[RunFolder], keys: Sequence[Key]) -> None:
    """Refuse runs that were scored against different references.

    Args:
        runs: All runs.
        keys: The scans that are compared.

    Raises:
        UserError: The hash of a label file in ``provenance.json``, or the voxel count of a label in ``scans.csv``,
            differs between two runs.
    """
    hashes: dict[str, tuple[str, RunFolder]] = {}
    voxels: dict[Key, tuple[np.ndarray, RunFolder]] = {}
    compared = set(keys)
    for run in runs:
        table = scan_table(run, "reference_voxels")
        for key, counts in zip(table.index, table.to_numpy(), strict=True):
            if key not in compared:
                continue
            seen, other = voxels.setdefault(key, (counts, run))
            sha256 = _label_hash(run, key)
            known, owner = hashes.setdefault(key[1], (sha256, run)) if sha256 else ("", run)
            if known != sha256:
                raise UserError(_other_references(owner, run, key[1], "its label files have different SHA-256 hashes"))
            if not np.array_equal(seen, counts, equal_nan=True):
                raise UserError(_other_references(other, run, key[1], "its labels have different voxel counts"))


def _other_references(one: RunFolder, other: RunFolder, case: str, why: str) -> str:
    return (
        f"The references of scan {printable(case)} differ between {printable(one.path)} and "
        f"{printable(other.path)}: {why}. Score both against the same masks: segment evaluate"
    )


def _label_hash(run: RunFolder, key: Key) -> str:
    """SHA-256 of a scan's label file as recorded by the run; empty if it was not recorded."""
    found = _mapping(_mapping(run.provenance.get("test_cases" if key[0] == TEST else "cases")).get(key[1]))
    sha256 = _mapping(found.get("sha256")).get(str(found.get("label")))
    return sha256 if isinstance(sha256, str) else ""


def check_trained(runs: Sequence[RunFolder], keys: Sequence[Key]) -> None:
    """Refuse scores of scans that the run was trained on, unless their split is called ``train``.

    Args:
        runs: All runs.
        keys: The scans that are compared.

    Raises:
        UserError: A run was trained on scans that are compared.
    """
    compared = {key for key in keys if key[0] != "train"}
    for run in runs:
        trained = _mapping(run.provenance.get("split")).get("train")
        names = {name for name in trained if isinstance(name, str)} if isinstance(trained, list) else set()
        scored = (
            set(zip(*(run.scans[column].tolist() for column in ("split", "case")), strict=True)) if names else set()
        )
        apart = {(TEST, case) for case in _mapping(run.provenance.get("test_cases"))}  # names may recur there
        both = {key for key in (compared & scored) - apart if key[1] in names}
        if both:
            raise UserError(
                f"{printable(run.path)} was trained on {_first_few(both)} of this comparison: its scores "
                "there say nothing about new scans. Compare runs on scans that none of them was trained on."
            )


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _paths(runs: Sequence[RunFolder]) -> str:
    more = f" (and {len(runs) - 1} more with its seed)" if len(runs) > 1 else ""
    return f"{printable(runs[0].path)}{more}"


def _first_few(keys: Iterable[Key]) -> str:
    """The number of scans and the first few ids."""
    ordered = sorted(keys)
    few = ", ".join(printable(case) for _, case in ordered[:_FEW])
    more = f" and {len(ordered) - _FEW} more" if len(ordered) > _FEW else ""
    return f"{len(ordered)} scan{'' if len(ordered) == 1 else 's'} ({few}{more})"
