"""A CSV with one row a scan: ``image`` (or ``image_0``, ...), ``label``, ``id``, ``group``, ``split``, ``source``."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import checked, found_labels, named_channels, split_channel
from segment.data.problems import Problem, Report, raise_errors, reported
from segment.errors import UserError, did_you_mean
from segment.io.formats import stem

LOOKED_FOR = "a CSV (or a folder with exactly one *.csv) with the columns image and label"
_IMAGE = re.compile(r"image(_\d+)?")
_SPLITS = {"": "train", "train": "train", "test": "test"}


def recognise(root: Path) -> bool:
    """Whether a path is a table of scans.

    Args:
        root: A folder or file.

    Returns:
        True for a CSV file, or a folder with exactly one; a CSV beside a folder of images must name the columns, since
        it may as well be about something else.
    """
    path = _file(root)
    if path is None or path == root or not any((root / folder).is_dir() for folder in ("images", "imagesTr")):
        return path is not None
    columns, _ = _rows(path, lambda problem: None)
    return "label" in columns and any(_IMAGE.fullmatch(column) for column in columns)


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read the cases that a table lists.

    Relative paths start at the table's folder; absolute ones are taken as they are. ``group`` (a patient) never
    straddles folds; ``source`` (a site, a data set) can be weighted in training; ``split`` is ``train`` (or empty) or
    ``test``; other columns are left alone.

    Args:
        root: The CSV file, or the folder that holds exactly one.
        name: Name to give the data set.
        labels: What the masks hold; None names them after the values found, which reads every mask.
        channels: Channel names; None numbers them.
        report: Told of every row with an empty cell, a missing file and the like; raises by default.

    Returns:
        The data set, of the rows that are sound.

    Raises:
        UserError: When there is no table, it lacks a column, or no row of it can be used.
    """
    path = _file(root)
    if path is None:
        raise UserError(f"{root} is not {LOOKED_FOR}.")
    columns, rows = _rows(path, report)
    images = _image_columns(columns, path)
    training: list[Case] = []
    tests: list[Case] = []
    for number, row in rows:
        where = f"{path}, line {number}"
        with reported(report, "description", where):
            split = row.get("split", "").lower()
            if split not in _SPLITS:
                raise UserError(
                    f"{where}: split {split!r} is neither train nor test.{did_you_mean(split, [*_SPLITS])} "
                    "Validation folds of one's own go into a splits file."
                )
            case = _case(path.parent, row, images, where)
            (training if _SPLITS[split] == "train" else tests).append(case)
            if _SPLITS[split] == "train" and case.label is None:
                raise UserError(f"{where}: a training scan needs a label. Fill it in, or write split=test.")
    cases = checked(training, path, report)
    if not cases:
        raise UserError(f"{path} lists no training scan whose images are there.")
    named = named_channels(cases, channels, "data.channels", report)
    table = labels or found_labels(cases, report)
    return Dataset(name, path.parent, cases, table, named, checked(tests, path, report))


def _file(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() == ".csv" else None
    tables = [path for path in root.glob("*.csv") if not path.name.startswith(".")] if root.is_dir() else []
    return tables[0] if len(tables) == 1 else None


def _rows(path: Path, report: Report) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read the table; the separator is the one of comma, semicolon and tab that the first line has most of."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text. Save it as CSV in UTF-8.") from error
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=separator)
    columns = [column.strip().lower() for column in reader.fieldnames or []]
    reader.fieldnames = columns
    rows = []
    for number, row in enumerate(reader, start=2):
        if None in row or None in row.values():
            what = "The row has not as many cells as the first line."
            report(Problem("description", f"{path}, line {number}", what, "Mend it."))
            continue
        rows.append((number, {key: value.strip() for key, value in row.items() if key}))
    return columns, rows


def _image_columns(columns: Sequence[str], path: Path) -> list[str]:
    several = sorted((c for c in columns if re.fullmatch(r"image_\d+", c)), key=lambda column: int(column[6:]))
    images = several or [column for column in columns if column == "image"]
    for column, found in (("image", bool(images)), ("label", "label" in columns)):
        if not found:
            raise UserError(
                f"{path} has no column {column!r}; its columns are {', '.join(columns)}. Rename the one that holds it."
            )
    return images


def _case(folder: Path, row: Mapping[str, str], images: Sequence[str], where: str) -> Case:
    empty = [column for column in images if not row[column]]
    if empty:
        raise UserError(f"{where}: the cell {empty[0]!r} is empty. Name the image file.")
    files = tuple(folder / row[column] for column in images)
    name = stem(files[0])
    default = split_channel(name)[0] if len(files) > 1 else name
    label = folder / row["label"] if row["label"] else None
    return Case(row.get("id") or default, files, label, row.get("group") or None, row.get("source") or "")
