"""Which labels a run confuses, ``confusion.csv``: voxels of all scans by reference label and predicted label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segment.data.labels import MAX_LABELS
from segment.errors import UserError
from segment.files import write_text
from segment.runs.cells import csv_text, names_in
from segment.text import one_line

FILE = "confusion.csv"
COLUMNS = ("reference", "prediction", "voxels")


def write_confusion(path: Path, names: Sequence[str], counts: np.ndarray) -> None:
    """Write the table atomically, one row per pair of labels.

    Args:
        path: The CSV file.
        names: Names of the labels, the background first.
        counts: (label of the reference, label of the prediction) voxels, summed over scans.
    """
    rows = [(one, other, int(counts[i, j])) for i, one in enumerate(names) for j, other in enumerate(names)]
    write_text(path, csv_text(pd.DataFrame(rows, columns=list(COLUMNS))))


def sum_confusions(paths: Sequence[Path]) -> pd.DataFrame | None:
    """The sum of several tables; None if one is missing or their labels differ."""
    if not all(path.is_file() for path in paths):
        return None
    tables = [read_confusion(path) for path in paths]
    if any(not table.index.equals(tables[0].index) for table in tables):
        return None
    return sum(tables[1:], start=tables[0])


def read_confusion(path: Path) -> pd.DataFrame:
    """Read the table.

    Args:
        path: A ``confusion.csv``.

    Returns:
        Voxels (int64): index and columns are the names of the labels in the order of the file, the background first.

    Raises:
        UserError: The file cannot be read or is not such a table.
    """
    try:
        rows = pd.read_csv(path, encoding="utf-8", dtype={"reference": str, "prediction": str}, keep_default_na=False)
        rows = rows.assign(**{side: names_in(rows[side]) for side in ("reference", "prediction")})
        names = list(dict.fromkeys(rows["reference"]))
        if len(names) > MAX_LABELS or len(rows) != len(names) ** 2:
            raise ValueError("it does not have one row per pair of labels")
        table = rows.pivot(index="reference", columns="prediction", values="voxels").loc[names, names].astype(np.int64)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read as a table of confused labels ({one_line(error)}).") from error
    if (table < 0).any(axis=None):
        raise UserError(f"{path} has a negative number of voxels. Score the masks again.")
    return table
