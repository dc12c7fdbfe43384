"""The table of a run, ``scans.csv``: one row per (scan, label)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segment.errors import UserError, did_you_mean
from segment.files import write_text
from segment.metrics.scan import STATUSES
from segment.runs.cells import csv_text, names_in
from segment.runs.columns import COLUMNS, COUNTS, GROUP, OPTIONAL, OVERLAPS, TEST
from segment.text import one_line, printable


def metric_columns(scans: pd.DataFrame) -> list[str]:
    """Metric columns of a table of scans: `OVERLAPS` and the columns after the fixed and the optional ones."""
    return [*OVERLAPS, *(str(column) for column in scans.columns if column not in (*COLUMNS, *OPTIONAL))]


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate tables of several runs; metrics that any of them lacks are dropped, missing groups are empty."""
    parts = list(tables)
    if any(GROUP in part for part in parts):
        parts = [part if GROUP in part else part.assign(**{GROUP: ""}) for part in parts]
    return pd.concat(parts, ignore_index=True, join="inner")


def parted(scans: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Separate test scans from the scans that a run is judged by, so that no figure mixes them.

    Args:
        scans: Table of scans.

    Returns:
        The rows of all other scans, and those of the test scans; if there are only test scans, the latter are empty.
    """
    tests = scans["split"] == TEST
    if tests.all():
        tests = ~tests
    return scans[~tests], scans[tests]


def mean_over_folds(scans: pd.DataFrame, perfect: Mapping[str, float]) -> pd.DataFrame:
    """Average the scores of scans that the models of several folds predicted, so that each scan counts once.

    Args:
        scans: Table of scans.
        perfect: Metric column to its perfect score, which a structure counts with in a fold that correctly leaves it
            empty while another one invents it.

    Returns:
        The table if no scan is repeated; else one row per (scan, label) without a fold, with the mean scores and the
        mean voxel counts, rounded; its status is ``ok`` where the folds' differ.
    """
    keys = ["case", "split", "label", "name"]
    if not scans.duplicated(keys).any():
        return scans
    filled = scans.copy()
    columns = metric_columns(scans)
    for column in columns:
        somewhere = scans.groupby(keys)[column].transform("count") > 0
        filled[column] = scans[column].mask(scans[column].isna() & somewhere, perfect[column])
    groups = filled.groupby(keys, sort=False)
    means = groups[[*columns, *COUNTS]].mean().round(dict.fromkeys(COUNTS, 0)).astype(dict.fromkeys(COUNTS, np.int64))
    means["status"] = groups["status"].agg(lambda found: found.iloc[0] if found.nunique() == 1 else "ok")
    means["fold"] = pd.Series(pd.NA, means.index, dtype="Int64")
    for column in OPTIONAL:
        if column in scans:
            means[column] = groups[column].first() if column == GROUP else groups[column].mean()
    return means.reset_index()[list(scans.columns)]


def write_scans(path: Path, scans: pd.DataFrame) -> None:
    """Write a table of scans atomically.

    Args:
        path: The CSV file; numbers are written with full precision.
        scans: Columns `COLUMNS`, perhaps `GROUP` and `VOLUMES`, and further metric columns.

    Raises:
        ValueError: A column is missing.
    """
    missing = [column for column in COLUMNS if column not in scans.columns]
    if missing:
        raise ValueError(f"a table of scans needs the columns {missing}")
    further = [column for column in scans.columns if column not in COLUMNS]
    further.sort(key=lambda column: OPTIONAL.index(column) if column in OPTIONAL else len(OPTIONAL))
    write_text(path, csv_text(scans[[*COLUMNS, *further]]))


def read_scans(path: Path) -> pd.DataFrame:
    """Read and check a table of scans.

    Args:
        path: A ``scans.csv``.

    Returns:
        Columns `COLUMNS`, perhaps `GROUP` and `VOLUMES`, and further metric columns: text as str, `fold` as Int64,
        counts and `label` as int64, volumes and metrics as float64 with NaN for an empty field.

    Raises:
        UserError: The file is missing or not a table, lacks a column, contains an invalid value, contains a label of
            a scan twice or gives one label two names.
    """
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Is this the folder of a finished run?") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a table of comma-separated values ({one_line(error)}).") from None
    for column in COLUMNS:
        if column not in raw.columns:
            hint = did_you_mean(column, [name for name in raw.columns if name not in COLUMNS])
            raise UserError(
                f"{path} lacks the column {column!r}.{hint} A table of scans begins with {','.join(COLUMNS)}."
            )
    scans = pd.DataFrame({column: names_in(raw[column]) for column in ("case", "split", "name", "status")})
    for column in ("label", *COUNTS, "fold"):
        scans[column] = _whole_numbers(path, raw[column], may_be_empty=column == "fold")
    further = metric_columns(raw)[len(OVERLAPS) :]
    for column in (*OVERLAPS, *further):
        scans[column] = _numbers(path, raw[column], most=1.0 if column in OVERLAPS else None)
    optional = [column for column in OPTIONAL if column in raw.columns]
    for column in optional:
        scans[column] = names_in(raw[column]) if column == GROUP else _numbers(path, raw[column], most=None)
    scans = scans[[*COLUMNS, *optional, *further]]
    _check_rows(path, scans)
    return scans


def _refuse(path: Path, values: pd.Series, wrong: np.ndarray | pd.Series, expected: str) -> None:
    """Raise an error for the first invalid field of a column, with its line in the file."""
    rows = np.flatnonzero(np.asarray(wrong))
    if len(rows):
        raise UserError(
            f"{path}, line {rows[0] + 2}: column {values.name!r} contains {printable(values.iloc[rows[0]])!r}; "
            f"expected {expected}."
        )


def _whole_numbers(path: Path, values: pd.Series, may_be_empty: bool) -> pd.Series:
    """A column of non-negative whole numbers."""
    fine = values.str.fullmatch(r"\d{1,18}") | (may_be_empty & (values == ""))
    _refuse(path, values, ~fine, "a whole number" + (" or an empty field" if may_be_empty else ""))
    numbers = pd.to_numeric(values.where(values != ""), errors="raise").astype("Int64")
    return numbers if may_be_empty else numbers.astype(np.int64)


def _numbers(path: Path, values: pd.Series, most: float | None) -> pd.Series:
    """A column of finite numbers (from 0 to `most`, unless None) or empty fields."""
    empty = values == ""
    numbers = pd.to_numeric(values.where(~empty), errors="coerce").astype(np.float64)
    fine = np.isfinite(numbers) if most is None else (numbers >= 0) & (numbers <= most)
    _refuse(
        path,
        values,
        ~(fine | empty),
        "a number" + ("" if most is None else f" from 0 to {most:g}") + " or an empty field",
    )
    return numbers


def _check_rows(path: Path, scans: pd.DataFrame) -> None:
    """Check conditions that involve several fields."""
    _refuse(path, scans["case"], scans["case"] == "", "the id of a scan")
    _refuse(path, scans["status"], ~scans["status"].isin(STATUSES), f"one of {', '.join(STATUSES)}")
    for column in OVERLAPS:
        unscored = scans["status"] == "both_empty"
        wrong = scans[column].isna() != unscored
        _refuse(path, scans[column], wrong, "a score, or an empty field exactly if the status is both_empty")
    duplicated = scans.duplicated(["case", "split", "fold", "label"])
    _refuse(path, scans["case"], duplicated, "each label of a scan once")
    names = scans[["label", "name"]].drop_duplicates()
    for column, other in (("label", "name"), ("name", "label")):
        again = names[names.duplicated(column)].index
        _refuse(path, scans[other], scans.index.isin(again), f"one {other} for each {column}")


def scan_rows(scans: pd.DataFrame, column: str) -> pd.DataFrame:
    """Turn a long table into one row per scan and one column per label.

    Args:
        scans: Table of scans.
        column: A metric column, or ``status``.

    Returns:
        ``(scans, labels)``, float64 for a metric; rows in the order of the table, indexed by (split, fold, case), with
        -1 for no fold; columns are label names in the order of the class indices; NaN where a scan has no score.
    """
    return scan_tables(scans, [column])[column]


def scan_tables(scans: pd.DataFrame, columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The `scan_rows` of several columns, for which rows and labels are found once."""
    order = scans[["label", "name"]].drop_duplicates().sort_values("label")["name"]
    keys = [scans["split"], scans["fold"].astype("Int64").fillna(-1).astype(int), scans["case"]]
    rows = scans.set_index(pd.MultiIndex.from_arrays(keys))
    index = rows.index.unique()
    wide = rows.pivot(columns="name", values=list(columns)) if len(rows) else None
    found = {}
    for column in columns:
        table = pd.DataFrame(columns=order) if wide is None else wide[column]
        table = table.reindex(index=index, columns=list(order))
        found[column] = table if column == "status" else table.astype(np.float64)
    return found
