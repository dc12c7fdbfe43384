"""How well a run detects lesions: ``detection.csv``, the FROC curves, and its part of ``summary.json``."""

from __future__ import annotations

import io
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
from segment.text import one_line, printable
from segment.validation import Number

FILE = "detection.csv"
KEY = "detection"
"""Key in ``summary.json``."""
CURVE = ("score", "false_positives_per_scan", "sensitivity")
COLUMNS = ("label", "name", *CURVE)
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


def write_detection(path: Path, found: Mapping[str, Detections], score: str) -> dict[str, Any]:
    """Write the FROC curves of all structures atomically.

    Points within a straight part of a curve, where only false positives are added, are left out.

    Args:
        path: The CSV file.
        found: Name of every structure to its lesions in all scans.
        score: What scores them.

    Returns:
        The entry of ``summary.json``, see `DetectionRecord`.
    """
    measured = {name: detection(own) for name, own in found.items()}
    tables = []
    for label, (name, own) in enumerate(measured.items(), 1):
        hits = np.diff(own.sensitivity, prepend=0, append=np.inf) > 0
        corners = hits[:-1] | hits[1:]
        curve = (own.thresholds, own.false_positives, own.sensitivity)
        table = pd.DataFrame({key: values[corners] for key, values in zip(CURVE, curve, strict=True)})
        tables.append(table.assign(label=label, name=name))
    buffer = io.StringIO()
    pd.concat(tables)[list(COLUMNS)].to_csv(buffer, index=False, lineterminator="\n", float_format="%.9g")
    write_text(path, buffer.getvalue())
    entries = {name: _entry(found[name], own) for name, own in measured.items()}
    record: dict[str, Any] = plain({"score": score, "structures": entries})
    return record


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
        curves = {str(name): numbers[rows].T for name, rows in table.groupby("name", sort=False).indices.items()}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read as FROC curves ({one_line(error)}).") from error
    valid = len(numbers) <= MAX_POINTS and len(curves) <= MAX_LABELS and np.isfinite(numbers).all()
    if not valid or (numbers < 0).any() or (numbers[:, 2] > 1).any():
        raise UserError(f"{path} contains a value that is not valid in a curve. Run the command again to rewrite it.")
    return curves


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
