"""The table of a run, ``scans.csv``: one row a (scan, label), made from masks on disk, written and read alike."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.data.formats import is_image_file, stem
from segment.data.geometry import grid_difference
from segment.data.images import read_label
from segment.data.labels import IGNORE, MAX_LABELS, Labels
from segment.errors import UserError, did_you_mean
from segment.metrics.scan import STATUSES, score_scan
from segment.provenance import write_text
from segment.report.files import printable

KEYS = ("case", "split", "fold", "label", "name")
OVERLAPS = ("dice", "iou")
COUNTS = ("reference_voxels", "predicted_voxels")
COLUMNS = (*KEYS, *OVERLAPS, *COUNTS, "status")
"""Columns that every ``scans.csv`` has, in this order; columns of further metrics stand after them.

case: id of the scan. split: e.g. ``val``. fold: number, or empty. label: class index, from 1. name: name of the label.
dice, iou: in [0, 1], empty exactly when status is ``both_empty``. reference_voxels, predicted_voxels: voxel counts.
status: ``ok``, ``both_empty``, ``missed`` or ``invented``. Further columns: finite numbers or empty.
"""


def metric_columns(scans: pd.DataFrame) -> list[str]:
    """Columns of a table of scans that hold a metric: ``dice``, ``iou`` and those after the fixed columns."""
    return [*OVERLAPS, *(str(column) for column in scans.columns if column not in COLUMNS)]


def write_scans(path: Path, scans: pd.DataFrame) -> None:
    """Write a table of scans, whole or not at all.

    Args:
        path: The CSV file; numbers are written so that reading gives them back exactly.
        scans: Columns `COLUMNS` and further metric columns.

    Raises:
        ValueError: A column is missing.
    """
    missing = [column for column in COLUMNS if column not in scans.columns]
    if missing:
        raise ValueError(f"a table of scans needs the columns {missing}")
    further = [column for column in scans.columns if column not in COLUMNS]
    buffer = io.StringIO()
    scans[[*COLUMNS, *further]].to_csv(buffer, index=False, lineterminator="\n")
    write_text(path, buffer.getvalue())


def read_scans(path: Path) -> pd.DataFrame:
    """Read and check a table of scans.

    Args:
        path: A ``scans.csv``.

    Returns:
        Columns `COLUMNS` and further metric columns: text as str, `fold` as Int64, counts and `label` as int64,
        metrics as float64 with NaN for an empty field.

    Raises:
        UserError: The file is missing or no table, lacks a column, holds a value that its column cannot have,
            holds a scan's label twice or gives one label two names.
    """
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Is this the folder of a finished run?") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a table of comma-separated values ({' '.join(str(error).split())}).") from None
    for column in COLUMNS:
        if column not in raw.columns:
            hint = did_you_mean(column, [name for name in raw.columns if name not in COLUMNS])
            raise UserError(
                f"{path} lacks the column {column!r}.{hint} A table of scans begins with {','.join(COLUMNS)}."
            )
    scans = pd.DataFrame({column: raw[column] for column in ("case", "split", "name", "status")})
    for column in ("label", *COUNTS, "fold"):
        scans[column] = _whole_numbers(path, raw[column], may_be_empty=column == "fold")
    further = [str(column) for column in raw.columns if column not in COLUMNS]
    for column in (*OVERLAPS, *further):
        scans[column] = _numbers(path, raw[column], most=1.0 if column in OVERLAPS else None)
    scans = scans[[*COLUMNS, *further]]
    _check_rows(path, scans)
    return scans


def _refuse(path: Path, values: pd.Series, wrong: np.ndarray | pd.Series, expected: str) -> None:
    """Name the first wrong field of a column by its line in the file."""
    rows = np.flatnonzero(np.asarray(wrong))
    if len(rows):
        raise UserError(
            f"{path}, line {rows[0] + 2}: column {values.name!r} holds {printable(values.iloc[rows[0]])!r}; "
            f"expected {expected}."
        )


def _whole_numbers(path: Path, values: pd.Series, may_be_empty: bool) -> pd.Series:
    """A column of non-negative whole numbers."""
    fine = values.str.fullmatch(r"\d{1,18}") | (may_be_empty & (values == ""))
    _refuse(path, values, ~fine, "a whole number" + (" or nothing" if may_be_empty else ""))
    numbers = pd.to_numeric(values.where(values != ""), errors="raise").astype("Int64")
    return numbers if may_be_empty else numbers.astype(np.int64)


def _numbers(path: Path, values: pd.Series, most: float | None) -> pd.Series:
    """A column of finite numbers (from 0 to `most`, where given) or empty fields."""
    empty = values == ""
    numbers = pd.to_numeric(values.where(~empty), errors="coerce").astype(np.float64)
    fine = np.isfinite(numbers) if most is None else (numbers >= 0) & (numbers <= most)
    _refuse(
        path, values, ~(fine | empty), "a number" + ("" if most is None else f" from 0 to {most:g}") + " or nothing"
    )
    return numbers


def _check_rows(path: Path, scans: pd.DataFrame) -> None:
    """Check what a single field cannot tell."""
    _refuse(path, scans["case"], scans["case"] == "", "the id of a scan")
    _refuse(path, scans["status"], ~scans["status"].isin(STATUSES), f"one of {', '.join(STATUSES)}")
    for column in OVERLAPS:
        unscored = scans["status"] == "both_empty"
        wrong = scans[column].isna() != unscored
        _refuse(path, scans[column], wrong, "a score, and nothing exactly where the status is both_empty")
    twice = scans.duplicated(["case", "split", "fold", "label"])
    _refuse(path, scans["case"], twice, "each label of a scan once")
    names = scans[["label", "name"]].drop_duplicates()
    for column, other in (("label", "name"), ("name", "label")):
        again = names[names.duplicated(column)].index
        _refuse(path, scans[other], scans.index.isin(again), f"one {other} for each {column}")


def scan_rows(scans: pd.DataFrame, column: str) -> pd.DataFrame:
    """Turn a long table into one row a scan, one column a label.

    Args:
        scans: Table of scans.
        column: A metric column, or ``status``.

    Returns:
        ``(scans, labels)``, float64 for a metric; rows in the order of the table, indexed by (split, fold, case), with
        -1 for no fold; columns are label names in the order of the class indices; NaN where a scan has no score.
    """
    order = scans[["label", "name"]].drop_duplicates().sort_values("label")["name"]
    keys = [scans["split"], scans["fold"].astype("Int64").fillna(-1).astype(int), scans["case"]]
    rows = scans.set_index(pd.MultiIndex.from_arrays(keys))
    wide = rows.pivot(columns="name", values=column) if len(rows) else pd.DataFrame(columns=order)
    wide = wide.reindex(index=rows.index.unique(), columns=list(order))
    return wide if column == "status" else wide.astype(np.float64)


def pair_folders(predictions: Path, references: Path, ignore_extra: bool = False) -> list[tuple[str, Path, Path]]:
    """Match the masks of two folders by their names without the format.

    Args:
        predictions: Folder of predicted masks; files that are no images are passed over.
        references: Folder of reference masks.
        ignore_extra: Pass over predictions without a reference, where not all predicted scans have one.

    Returns:
        (case id, prediction file, reference file) of every reference, sorted by id.

    Raises:
        UserError: A folder is missing or holds no mask or two masks of one name, a reference has no prediction (it is
            not left out: that would hide failures), or a prediction has no reference.
    """
    predicted, referenced = _masks_by_stem(predictions), _masks_by_stem(references)
    missing = [name for name in referenced if name not in predicted]
    if missing:
        raise UserError(
            f"{predictions} holds no prediction for {len(missing)} of the {len(referenced)} references "
            f"in {references}: {_first_few(missing)}. Predict these scans too; masks are matched by file name."
        )
    extra = [name for name in predicted if name not in referenced]
    if extra and not ignore_extra:
        raise UserError(
            f"{references} holds no reference for {len(extra)} of the {len(predicted)} predictions in {predictions}: "
            f"{_first_few(extra)}. Add the references, or set ignore_extra=true to score the other scans only."
        )
    return [(name, predicted[name], file) for name, file in referenced.items()]


def discover_labels(pairs: Sequence[tuple[str, Path, Path]]) -> Labels:
    """Name labels after the values that masks hold, for masks that nobody gave names for.

    Args:
        pairs: (case id, prediction file, reference file).

    Returns:
        ``background`` (0) and ``label_VALUE`` for every other value found, in the order of the values.

    Raises:
        UserError: A file cannot be read or is no mask, or more than 255 values are found.
    """
    found: set[int] = {0}
    for _, *files in pairs:
        for file in files:
            found.update(np.unique(read_label(file).array).tolist())
            if len(found) > MAX_LABELS:
                raise UserError(
                    f"{file} brings the number of different label values to {len(found)}, more than {MAX_LABELS}: "
                    "it is probably an image, not a mask. Name the folder of masks."
                )
    return Labels({"background": 0, **{f"label_{value}": value for value in sorted(found - {0})}})


def score_pairs(
    pairs: Sequence[tuple[str, Path, Path]],
    labels: Labels,
    split: str,
    fold: int | None,
    workers: int = 2,
    advance: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Score masks on disk against their references.

    Args:
        pairs: (case id, prediction file, reference file).
        labels: What the values in the masks stand for.
        split: Split the scans belong to, e.g. ``val``.
        fold: Fold the scans belong to; None when there is none.
        workers: Scans that are read and scored at the same time, in threads.
        advance: Called with the case id whenever one more scan is done, e.g. to move a progress bar.

    Returns:
        Table with `COLUMNS`, one row a (scan, label), scans in the order of `pairs`, labels in that of their indices.

    Raises:
        UserError: A file cannot be read or is no mask, the two masks of a scan lie on different grids, or a mask
            holds a value that no label has.
    """

    def score(pair: tuple[str, Path, Path]) -> list[dict[str, Any]]:
        return _score_pair(pair, labels)

    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for (case, *_), scores in zip(pairs, pool.map(score, pairs), strict=True):
                rows += scores
                if advance is not None:
                    advance(case)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    scans = pd.DataFrame(rows, columns=["case", "label", "name", *OVERLAPS, *COUNTS, "status"])
    scans["split"] = split
    scans["fold"] = pd.Series([fold] * len(scans), dtype="Int64")
    return scans[list(COLUMNS)]


def _score_pair(pair: tuple[str, Path, Path], labels: Labels) -> list[dict[str, Any]]:
    """Read and score one scan."""
    case, prediction, reference = pair
    masks = read_label(prediction), read_label(reference)
    difference = grid_difference(masks[0].grid, masks[1].grid)
    if difference:
        raise UserError(
            f"{prediction} does not lie on the grid of its reference {reference}: {difference}. "
            "Resample the prediction onto the scan's own grid."
        )
    encoded = []
    for file, mask in zip((prediction, reference), masks, strict=True):
        try:
            encoded.append(labels.encode(mask.array))
        except ValueError as error:
            raise UserError(f"{file}: {error}. Declare every value that the masks hold.") from None
    scores = score_scan(encoded[0], encoded[1], labels.structures, len(labels), IGNORE)
    return [{"case": case, **asdict(score)} for score in scores]


def _masks_by_stem(folder: Path) -> dict[str, Path]:
    """The masks of a folder by name without the format, sorted."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Name the folder that the masks lie in.")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir(), key=lambda file: stem(file)):
        if not is_image_file(file):
            continue
        if stem(file) in found:
            raise UserError(
                f"{folder} holds {found[stem(file)].name} and {file.name}, two masks of one scan. Keep one."
            )
        found[stem(file)] = file
    if not found:
        raise UserError(
            f"{folder} holds no mask (such as .nii.gz, .mha, .nrrd, .png or .tif). Name the folder of masks."
        )
    return found


def _first_few(names: Sequence[str]) -> str:
    """Name the first few of many."""
    few = ", ".join(printable(name) for name in names[:3])
    return few if len(names) <= 3 else f"{few} and {len(names) - 3} more"
