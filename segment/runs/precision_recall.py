"""The precision-recall curves of a run, ``precision_recall.csv``: one row per (structure, threshold)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from segment.data.labels import MAX_LABELS
from segment.errors import UserError
from segment.files import write_text
from segment.metrics.calibration import calibration
from segment.metrics.precision_recall import THRESHOLDS, precision_recall
from segment.runs.cells import csv_text, names_in
from segment.text import one_line, printable

COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
COLUMNS = ("label", "name", "threshold", *COUNTS, "precision", "recall")


def write_curves(path: Path, names: Sequence[str], counts: np.ndarray) -> None:
    """Write the curves of all structures over all scans atomically.

    Args:
        path: The CSV file.
        names: Name of every structure.
        counts: (structure, 2, THRESHOLDS) from `segment.metrics.precision_recall.threshold_counts`, summed over scans.
    """
    tables = []
    for label, (name, curve) in enumerate(zip(names, precision_recall(counts), strict=True), 1):
        table = pd.DataFrame(dict(zip((*COUNTS, "precision", "recall"), curve, strict=True)))
        table = table.astype(dict.fromkeys(COUNTS, np.int64))
        table["label"], table["name"], table["threshold"] = label, name, np.linspace(0, 1, THRESHOLDS)
        tables.append(table)
    write_text(path, csv_text(pd.concat(tables)[list(COLUMNS)], "%.6g"))


def counts_of(curve: np.ndarray) -> np.ndarray:
    """The voxels outside and inside a structure by probability ``(2, THRESHOLDS)``, from its curve."""
    positives = np.stack([curve[1], curve[0]])
    return positives - np.concatenate([positives[:, 1:], np.zeros((2, 1))], axis=1)


def calibrations(names: Sequence[str], counts: np.ndarray) -> dict[str, dict[str, float]]:
    """Calibration of every structure, for ``summary.json``.

    Args:
        names: Name of every structure.
        counts: As for `write_curves`.

    Returns:
        Name to ``{ece, brier, nll}``, over all voxels on the plan's grid.
    """
    found = zip(names, map(calibration, counts), strict=True)
    return {name: {"ece": own.ece, "brier": own.brier, "nll": own.nll} for name, own in found}


def precision_line(names: Sequence[str], average: np.ndarray) -> str:
    """One line on the average precision of every structure, and on which voxels it is of."""
    texts = [
        f"{printable(name)} {'-' if np.isnan(value) else f'{value:.4f}'}"
        for name, value in zip(names, average, strict=True)
    ]
    return f"average precision over all voxels, on the plan's grid (Dice is on each scan's own): {', '.join(texts)}"


def read_curves(path: Path) -> dict[str, np.ndarray]:
    """Read the curves of a run.

    Args:
        path: A ``precision_recall.csv``.

    Returns:
        For every structure (6, THRESHOLDS) float64: `COUNTS`, precision and recall, from threshold 0 to 1.

    Raises:
        UserError: The file cannot be read or is not a table of curves.
    """
    try:
        table = pd.read_csv(path, encoding="utf-8", dtype={"name": str}, nrows=MAX_LABELS * THRESHOLDS + 1)
        numbers = table[[*COUNTS, "precision", "recall"]].to_numpy(np.float64)
        names = names_in(table["name"]).to_numpy(str)[::THRESHOLDS]
        # Reshaping fails unless every curve is complete.
        curves = np.moveaxis(numbers.reshape(len(names), THRESHOLDS, 6), 1, 2)
        valid = np.isfinite(curves).all() and (curves >= 0).all() and len(set(names)) == len(names) <= MAX_LABELS
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read as curves ({one_line(error)}).") from error
    if not valid:
        raise UserError(f"{path} contains a value that is not valid in a curve. Run the command again to rewrite it.")
    return dict(zip(names.tolist(), curves, strict=True))
