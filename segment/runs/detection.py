"""How well a run detects lesions: ``lesions.csv``, FROC curves in ``detection.csv``, and its part of the summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.data.labels import MAX_LABELS
from segment.errors import UserError
from segment.files import plain, write_text
from segment.metrics.detection import IOUS, RATES, Detection, Detections, detection
from segment.runs.cells import csv_text, names_in
from segment.text import one_line, printable
from segment.validation import Number

FILE = "detection.csv"
LESIONS = "lesions.csv"
KEY = "detection"
"""Key in ``summary.json``."""
CURVE = ("score", "false_positives_per_scan", "sensitivity")
COLUMNS = ("label", "name", *CURVE)
MATCHES = tuple(f"iou_{iou:g}" for iou in IOUS)
"""Columns of ``lesions.csv``: 1 if the predicted lesion matches one of the reference by at least this IoU."""
MAX_POINTS = 1_000_000


@dataclass(frozen=True)
class StructureRecord:
    """Detection of the lesions of one structure; None without any lesion in the references.

    Attributes:
        scans: Number of scans.
        lesions: Lesions of the references.
        predicted: Predicted lesions.
        average_precision: By least IoU of a match.
        mean_average_precision: Their mean.
        sensitivity: By false positives per scan, at the first of these IoU.
        froc: Their mean.
    """

    scans: Number
    lesions: Number
    predicted: Number
    average_precision: dict[str, Number | None]
    mean_average_precision: Number | None
    sensitivity: dict[str, Number | None]
    froc: Number | None


@dataclass(frozen=True)
class DetectionRecord:
    """The entry of ``summary.json``.

    Attributes:
        score: What scores a lesion, as `segment.metrics.detection.detections` takes it.
        structures: By name.
    """

    score: str
    structures: dict[str, StructureRecord]


def write_detection(folder: Path, found: Mapping[str, Mapping[str, Detections]], score: str) -> dict[str, Any]:
    """Write the predicted lesions of all scans, and the FROC curves of all structures, each file atomically.

    Points within a straight part of a curve, where only false positives are added, are left out.

    Args:
        folder: The run folder.
        found: Name of every structure to its lesions in every scan, by the scan's id.
        score: What scores them.

    Returns:
        The entry of ``summary.json``, see `DetectionRecord`.
    """
    tables = []
    for label, (name, scans) in enumerate(found.items(), 1):
        for case, own in scans.items():
            matches = dict(zip(MATCHES, own.right.astype(int), strict=True))
            tables.append(pd.DataFrame({"case": case, "label": label, "name": name, "score": own.scores, **matches}))
    write_text(folder / LESIONS, csv_text(pd.concat(tables), "%.9g"))
    return write_pooled(folder, {name: Detections.pooled([*own.values()]) for name, own in found.items()}, score)


def write_pooled(folder: Path, found: Mapping[str, Detections], score: str) -> dict[str, Any]:
    """As `write_detection`, of lesions that are pooled over the scans, and without ``lesions.csv``."""
    measured = {name: detection(own) for name, own in found.items()}
    tables = []
    for label, (name, own) in enumerate(measured.items(), 1):
        hits = np.diff(own.sensitivity, prepend=0, append=np.inf) > 0
        corners = hits[:-1] | hits[1:]
        curve = (own.thresholds, own.false_positives, own.sensitivity)
        table = pd.DataFrame({key: values[corners] for key, values in zip(CURVE, curve, strict=True)})
        tables.append(table.assign(label=label, name=name))
    write_text(folder / FILE, csv_text(pd.concat(tables)[list(COLUMNS)], "%.9g"))
    entries = {name: _entry(found[name], own) for name, own in measured.items()}
    record: dict[str, Any] = plain({"score": score, "structures": entries})
    return record


def pool_folds(folder: Path, folds: Mapping[Path, Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Pool the lesions of all folds: write the curves and lesions of a cross-validation.

    Args:
        folder: Its run folder.
        folds: The folds' run folders, each with its entry of ``summary.json``, if it has one.

    Returns:
        The entry of ``summary.json``, see `DetectionRecord`; None if a fold has no ``lesions.csv``, or if the folds
        scored lesions differently.

    Raises:
        UserError: A file cannot be read or is not a table of lesions.
    """
    known = [record for path, record in folds.items() if record and (path / LESIONS).is_file()]
    if len(known) < len(folds) or len({(record["score"], *record["structures"]) for record in known}) > 1:
        return None
    tables = [_read_lesions(path / LESIONS) for path in folds]
    found = {}
    for name in known[0]["structures"]:
        parts = []
        for record, table in zip(known, tables, strict=True):
            rows, entry = table[table["name"] == name], record["structures"][name]
            right = rows[list(MATCHES)].to_numpy(bool).T
            parts.append(Detections(rows["score"].to_numpy(np.float64), right, entry["lesions"], entry["scans"]))
        found[name] = Detections.pooled(parts)
    write_text(folder / LESIONS, csv_text(pd.concat(tables), "%.9g"))
    return write_pooled(folder, found, known[0]["score"])


def read_detection(path: Path) -> dict[str, np.ndarray]:
    """Read the FROC curves of a run.

    Args:
        path: A ``detection.csv``.

    Returns:
        For every structure that has a curve (3, point) float64: score, false positives per scan and sensitivity.

    Raises:
        UserError: The file cannot be read or is not a table of curves.
    """
    try:
        table = pd.read_csv(path, encoding="utf-8", dtype={"name": str}, keep_default_na=False, nrows=MAX_POINTS + 1)
        numbers = table[list(CURVE)].to_numpy(np.float64)
        curves = {
            str(name): numbers[rows].T
            for name, rows in table.groupby(names_in(table["name"]), sort=False).indices.items()
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read as FROC curves ({one_line(error)}).") from error
    valid = len(numbers) <= MAX_POINTS and len(curves) <= MAX_LABELS and np.isfinite(numbers).all()
    if not valid or (numbers < 0).any() or (numbers[:, 2] > 1).any():
        raise UserError(f"{path} contains a value that is not valid in a curve. Run the command again to rewrite it.")
    return curves


def _read_lesions(path: Path) -> pd.DataFrame:
    """The table of predicted lesions, as `write_detection` writes it."""
    kinds: dict[str, type] = {"case": str, "name": str}
    try:
        table = pd.read_csv(path, encoding="utf-8", dtype=kinds, keep_default_na=False, nrows=MAX_POINTS + 1)
        scores, matches = table["score"].to_numpy(np.float64), table[list(MATCHES)].to_numpy(np.float64)
        named = len(table) <= MAX_POINTS and {"case", "label", "name"} <= set(table)
        valid = named and bool(((scores >= 0) & (scores <= 1)).all() and np.isin(matches, (0, 1)).all())
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read as a table of lesions ({one_line(error)}).") from error
    if not valid:
        raise UserError(f"{path} contains a value that is not valid for a lesion. Run the command again to rewrite it.")
    return table.assign(case=names_in(table["case"]), name=names_in(table["name"]))


def detection_line(record: Mapping[str, Any]) -> str:
    """One line on the detection of the lesions of every structure, and on what it was measured.

    Args:
        record: As `write_detection` returns it.
    """
    texts = []
    for name, own in record["structures"].items():
        precision, froc = (_decimal(own[key]) for key in ("mean_average_precision", "froc"))
        texts.append(f"{printable(name)} mAP {precision}, FROC {froc}, lesions {own['lesions']}, scans {own['scans']}")
    score = record["score"]
    return f"detection of lesions by their {score} probability, before post-processing: {'; '.join(texts)}"


def detection_rows(record: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table as text: name, lesions, predicted ones, mAP, AP at the first and last IoU, FROC at every rate.

    Args:
        record: As `write_detection` returns it.
    """
    rows = []
    for name, own in record["structures"].items():
        precisions = [own["average_precision"].get(f"{iou:g}") for iou in (IOUS[0], IOUS[-1])]
        figures = [own["mean_average_precision"], *precisions, own["froc"]]
        figures += [own["sensitivity"].get(f"{rate:g}") for rate in RATES]
        rows.append([printable(name), str(own["lesions"]), str(own["predicted"]), *map(_decimal, figures)])
    return rows


def _entry(found: Detections, own: Detection) -> dict[str, Any]:
    return {
        "scans": found.scans,
        "lesions": found.references,
        "predicted": len(found.scores),
        "average_precision": dict(zip((f"{iou:g}" for iou in IOUS), own.average_precision, strict=True)),
        "mean_average_precision": own.average_precision.mean(),
        "sensitivity": dict(zip((f"{rate:g}" for rate in RATES), own.at_rates, strict=True)),
        "froc": own.at_rates.mean(),
    }


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
