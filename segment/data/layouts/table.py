"""A CSV with one row per scan: ``image`` (or ``image_0``, ...), ``label``, ``id``, ``group``, ``split``, ``source``."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import checked, found_labels, named_channels, split_channel, unique_names
from segment.data.problems import Problem, Report, raise_errors, reported
from segment.errors import UserError, did_you_mean

LOOKED_FOR = "a CSV (or a folder with exactly one *.csv) with the columns image and label"
_IMAGE = re.compile(r"image(_\d+)?")
_NOT_ABOUT = ("id", "label", "group", "split")
_SPLITS = {"": "train", "train": "train", "test": "test"}


def recognise(root: Path) -> bool:
    """Whether a path is a table of scans.

    Args:
        root: A folder or file.

    Returns:
        True for a CSV file, or a folder with exactly one that has the columns; another may contain something else.
    """
    path = only_csv(root)
    if path is None or path == root:
        return path is not None
    try:
        columns, _ = read_rows(path, lambda problem: None)
    except UserError:
        return False
    return "label" in columns and any(_IMAGE.fullmatch(column) for column in columns)


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read the cases that a table lists.

    Relative paths are relative to the table's folder, with ``/`` or ``\\``; absolute paths are used unchanged. A row
    without an ``id`` is named after its image, with the folders above where names repeat. ``group`` (a patient) is
    never split across folds, so that its rows may share an image, as with two raters; ``source`` (a site, a data set)
    can be weighted in training; ``split`` is ``train`` (or empty) or ``test``; other columns, such as scanner or sex,
    describe the scan, for scores by subgroup.

    Args:
        root: The CSV file, or a folder that contains exactly one.
        name: Name to give the data set.
        labels: Labels of the masks; None names them after the values found, which reads every mask.
        channels: Channel names; None numbers them.
        report: Receives every problem, such as an empty cell or a missing file; raises by default.

    Returns:
        The data set with its valid rows.

    Raises:
        UserError: If there is no table, a column is missing, or no row can be used.
    """
    path = only_csv(root)
    if path is None:
        raise UserError(f"{root} is not {LOOKED_FOR}.")
    columns, rows = read_rows(path, report)
    images = _image_columns(columns, path)
    names = unique_names([_path(path.parent, row[images[0]]) for _, row in rows])
    training: list[Case] = []
    tests: list[Case] = []
    for name_of_row, (number, row) in zip(names, rows, strict=True):
        where = f"{path}, line {number}"
        with reported(report, "description", where):
            split = row.get("split", "").lower()
            if split not in _SPLITS:
                raise UserError(
                    f"{where}: split {split!r} is neither train nor test.{did_you_mean(split, [*_SPLITS])} "
                    "Put custom validation folds into a splits file."
                )
            case = _case(path.parent, row, images, name_of_row, where)
            (training if _SPLITS[split] == "train" else tests).append(case)
            if _SPLITS[split] == "train" and case.label is None:
                raise UserError(f"{where}: a training scan needs a label. Add it, or write split=test.")
    cases = checked(training, path, report)
    if not cases:
        raise UserError(f"{path} lists no training scan whose images exist.")
    named = named_channels(cases, channels, "data.channels", report)
    table = labels or found_labels(cases, report, path.parent)
    return Dataset(name, path.parent, cases, table, named, checked(tests, path, report))


def only_csv(root: Path) -> Path | None:
    """The table: a CSV file itself, or the only one in a folder.

    Args:
        root: A folder or file.
    """
    if root.is_file():
        return root if root.suffix.lower() == ".csv" else None
    tables = [path for path in root.glob("*.csv") if not path.name.startswith(".")] if root.is_dir() else []
    return tables[0] if len(tables) == 1 else None


def read_rows(path: Path, report: Report = raise_errors) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read a table; the separator is whichever of comma, semicolon and tab is most frequent in the first line.

    Excel's traces are ignored: a first line ``sep=;``, empty rows and empty cells beyond the last column.

    Args:
        path: The CSV file.
        report: Receives rows with too many or too few cells; raises by default.

    Returns:
        Names of the columns in lower case; line number and cells by column of every valid row.

    Raises:
        UserError: It is not UTF-8 text, or not a table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text. Save it as CSV in UTF-8.") from error
    lines = text.splitlines()
    start = 1 if lines and re.fullmatch("sep=.", lines[0].strip()) else 0
    separator = max(",;\t", key=lines[start].count) if len(lines) > start else ","
    reader = csv.reader(lines[start:], delimiter=separator)
    try:
        read = [(start + reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise UserError(
            f"{path}, line {start + reader.line_num}: is not a row of a table ({error}). Fix it."
        ) from error
    columns = [column.lower() for column in (read[0][1] if read else ())]
    rows = []
    for number, cells in read[1:]:
        if not any(cells):
            continue
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            what = "The row does not have as many cells as the first line."
            report(Problem("description", f"{path}, line {number}", what, "Fix it."))
            continue
        rows.append((number, {key: cell for key, cell in zip(columns, cells, strict=False) if key}))
    return [column for column in columns if column], rows


def _image_columns(columns: Sequence[str], path: Path) -> list[str]:
    several = sorted((c for c in columns if re.fullmatch(r"image_[0-9]{1,9}", c)), key=lambda column: int(column[6:]))
    images = several or [column for column in columns if column == "image"]
    for column, found in (("image", bool(images)), ("label", "label" in columns)):
        if not found:
            raise UserError(
                f"{path} has no column {column!r}; its columns are {', '.join(columns)}. Rename the right one."
            )
    return images


def _path(folder: Path, text: str) -> Path:
    """The file that a cell names; written on Windows, with backslashes."""
    path = folder / text
    return folder / PureWindowsPath(text).as_posix() if "\\" in text and not path.exists() else path


def _case(folder: Path, row: Mapping[str, str], images: Sequence[str], name: str, where: str) -> Case:
    empty = [column for column in images if not row[column]]
    if empty:
        raise UserError(f"{where}: the cell {empty[0]!r} is empty. Enter the image file.")
    files = tuple(_path(folder, row[column]) for column in images)
    default = split_channel(name)[0] if len(files) > 1 else name
    label = _path(folder, row["label"]) if row["label"] else None
    about = tuple((column, value) for column, value in row.items() if column not in _NOT_ABOUT and column not in images)
    return Case(row.get("id") or default, files, label, row.get("group") or None, row.get("source") or "", about)
