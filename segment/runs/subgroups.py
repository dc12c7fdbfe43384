"""Scores by subgroup of the scans, such as site, scanner or sex, from a table that names the subgroup of every scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from segment.data.layouts.table import read_rows
from segment.errors import UserError, did_you_mean
from segment.metrics.metric import MetricInfo
from segment.runs.columns import GROUP
from segment.runs.metrics import metric_infos
from segment.runs.scans import scan_rows
from segment.statistics.subgroups import subgroup_differences, subgroups
from segment.text import printable, table

KEY = "subgroups"
UNKNOWN = "unknown"
MOST = 20
"""Most subgroups: more are no groups but a measurement, such as an age."""

_IDS = ("id", "case")
_FOREGROUND = "foreground"


def read_subgroups(path: Path, column: str, cases: Iterable[str]) -> dict[str, str]:
    """Read the subgroup of every scan from a table.

    Args:
        path: A CSV with a column ``id`` or ``case``, and one row per scan.
        column: The column of the subgroups; upper and lower case are the same.
        cases: Ids of the scans; further rows of the table are ignored.

    Returns:
        Id to subgroup, `UNKNOWN` where the cell is empty.

    Raises:
        UserError: The table cannot be read, lacks a column or a scan, or names two rows or more than `MOST` subgroups.
    """
    try:
        columns, rows = read_rows(path)
    except OSError as error:
        raise UserError(f"table={path}: cannot be read ({error.strerror}). Give a CSV with one row per scan.") from None
    identifier = next((name for name in _IDS if name in columns), None)
    if identifier is None:
        raise UserError(f"table={path}: has no column id or case, which name the scan. It has {', '.join(columns)}.")
    if column.lower() not in columns:
        near = did_you_mean(column, columns)
        raise UserError(f"by={column}: {path} has no such column.{near} It has {', '.join(columns)}.")
    found: dict[str, str] = {}
    for _, row in rows:
        case = row[identifier]
        if case in found:
            raise UserError(f"table={path}: has two rows of the scan {printable(case)}. Keep one.")
        found[case] = row[column.lower()] or UNKNOWN
    return checked_subgroups(column, {case: found[case] for case in _known(cases, found, path)})


def checked_subgroups(column: str, found: Mapping[str, str]) -> dict[str, str]:
    """The subgroup of every scan, if they are not too many.

    Raises:
        UserError: There are more than `MOST`.
    """
    if len(set(found.values())) > MOST:
        raise UserError(
            f"by={column}: has {len(set(found.values()))} different values, more than {MOST}. Give a column of groups, "
            "such as site or scanner; bin a measurement first."
        )
    return dict(found)


def subgroup_summary(
    scans: pd.DataFrame, column: str, names: Mapping[str, str], infos: Sequence[MetricInfo]
) -> dict[str, Any]:
    """Scores of every subgroup and the differences between subgroups, for ``summary.json``.

    Args:
        scans: Table of scans of one split.
        column: What the subgroups are called.
        names: Id of every scan to its subgroup.
        infos: The metrics.

    Returns:
        ``column``; ``groups``: subgroup -> structure -> metric -> ``{mean, ci95, n}``, the foreground first;
        ``differences``: one entry per metric, structure and pair of subgroups: ``{metric, structure, first, second,
        difference, ci95, p, p_holm}``.
    """
    groups: dict[str, Any] = {}
    differences = []
    for info in infos:
        wide = scan_rows(scans, info.name)
        cases = wide.index.get_level_values("case")
        own, units = [names[case] for case in cases], _units(scans, cases)
        for structure in (_FOREGROUND, *wide.columns):
            scores = wide.to_numpy() if structure == _FOREGROUND else wide[[structure]].to_numpy()
            for found in subgroups(scores, own, units=units):
                entry = {"mean": found.mean, "ci95": found.interval and list(found.interval), "n": found.scans}
                groups.setdefault(found.name, {}).setdefault(str(structure), {})[info.name] = entry
            for apart in subgroup_differences(scores, own, units=units):
                row = {"metric": info.name, "structure": str(structure), **asdict(apart)}
                row["ci95"] = (interval := row.pop("interval")) and list(interval)
                differences.append(row)
    return {"column": column, "groups": groups, "differences": differences}


def subgroup_text(summary: Mapping[str, Any]) -> str:
    """The foreground of every subgroup, and the differences between them, as lines of text; empty without any."""
    found = summary.get(KEY)
    if not found:
        return ""
    infos = metric_infos(summary)
    rows = []
    for info in infos:
        for place, (name, structures) in enumerate(found["groups"].items()):
            own = structures[_FOREGROUND][info.name]
            cells = [_decimal(own["mean"]), _interval(own["ci95"]), str(own["n"])]
            rows.append([info.heading if place == 0 else "", printable(name), *cells])
    lines = [table(["metric", found["column"], "mean", "95 % interval", "n"], rows, left=["metric", found["column"]])]
    apart = [row for row in found["differences"] if row["structure"] == _FOREGROUND]
    rows = [
        [info.heading, f"{printable(row['first'])} - {printable(row['second'])}", f"{row['difference']:+.4f}",
         _interval(row["ci95"], " to "), f"{row['p_holm']:.4f}"]
        for info in infos
        for row in apart
        if row["metric"] == info.name
    ]  # fmt: skip
    if rows:
        heads = ["metric", "difference of the foreground", "first - second", "95 % interval", "Holm p"]
        lines += ["", table(heads, rows, left=heads[:2])]
    return "\n".join(lines) + "\n"


def _known(cases: Iterable[str], found: Mapping[str, str], path: Path) -> list[str]:
    """The ids of the scans, all of which the table must have."""
    wanted = list(dict.fromkeys(cases))
    missing = [case for case in wanted if case not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"table={path}: has no row of the scan {printable(missing[0])}{more}. Add it.")
    return wanted


def _units(scans: pd.DataFrame, cases: Sequence[str]) -> list[str] | None:
    """Patient or specimen of every scan; None where every scan is independent."""
    if GROUP not in scans:
        return None
    groups = dict(zip(scans["case"], scans[GROUP], strict=True))
    return [groups[case] or case for case in cases]


def _interval(ends: Sequence[float] | None, to: str = " - ") -> str:
    return "-" if ends is None else f"{ends[0]:.4f}{to}{ends[1]:.4f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
