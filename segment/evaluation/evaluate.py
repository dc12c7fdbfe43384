"""Scores masks from any program against their references: a table of scans and its summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segment.data.labels import Labels
from segment.data.layouts.common import label_table, read_json
from segment.evaluation.match import discover_labels, pair_masks
from segment.evaluation.score import score_pairs
from segment.files import read_mapping
from segment.metrics.metric import Metric
from segment.metrics.standard import STANDARD
from segment.runs.scans import write_scans
from segment.runs.summary import summarise, write_summary

Masks = Path | Sequence[Path]
"""A folder of masks, one mask, or several in a given order."""


def evaluate(
    predictions: Masks,
    references: Masks,
    labels: Mapping[str, int | Sequence[int]] | None = None,
    region_order: Sequence[int] | None = None,
    split: str = "all",
    fold: int | None = None,
    ignore_extra: bool = False,
    metrics: Sequence[Metric] = STANDARD,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score masks against their references.

    Args:
        predictions: Masks. Those in a folder are matched with the references by name, lists by position.
        references: Reference masks, given the same way.
        labels: Name to value, or to the list of values whose union is a region; None: the labels of a ``dataset.json``
            in or next to the folder of references, else the values found.
        region_order: With regions, the value that each one writes into a mask; None if it follows from the regions.
        split: Name of the split that the table records for these scans.
        fold: Their fold; None if there is none.
        ignore_extra: Skip predictions without a reference.
        metrics: Metrics to compute.
        progress: Called after each scan with the number of scans done and the total.

    Returns:
        The table of scans, as `segment.runs.scans.COLUMNS` describes it, and its summary, as
        `segment.runs.summary.summarise` does.

    Raises:
        UserError: Masks are missing, cannot be read, are not on the grid of their references or contain values that no
            label has.
    """
    pairs = pair_masks(predictions, references, ignore_extra)
    found = _declared_labels(labels, region_order, pairs[0][2].parent) or discover_labels(pairs)
    done: list[str] = []

    def advance(case: str) -> None:
        done.append(case)
        progress(len(done), len(pairs))

    scans = score_pairs(pairs, found, split, fold, metrics, advance=advance)
    protocol = {
        "split": split,
        "fold": fold,
        **(_prediction_settings(predictions) if isinstance(predictions, Path) else {}),
        "predictions": _as_text(predictions),
        "references": _as_text(references),
    }
    return scans, summarise(scans, protocol, metrics=[metric.info for metric in metrics])


def write_evaluation(folder: Path, scans: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """Write ``scans.csv`` and ``summary.json`` into a folder, which is created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_scans(folder / "scans.csv", scans)
    write_summary(folder / "summary.json", summary)


def _as_text(masks: Masks) -> str | list[str]:
    return str(masks) if isinstance(masks, Path) else [str(file) for file in masks]


def _prediction_settings(predictions: Path) -> dict[str, Any]:
    """Overlap, test-time augmentation and precision of masks from ``segment predict``; empty for other masks."""
    file = predictions / "predictions.json"
    settings = read_mapping(file).get("predicted") if file.is_file() else None
    if not isinstance(settings, dict):
        return {}
    mirror = settings.get("mirror")
    return {
        "overlap": settings.get("overlap"),
        "test_time_augmentation": f"mirror {mirror}" if mirror else "none",
        "precision": settings.get("precision"),
    }


def _declared_labels(
    labels: Mapping[str, int | Sequence[int]] | None, region_order: Sequence[int] | None, references: Path
) -> Labels | None:
    """Labels that the user gives, or those of a dataset.json in or next to the folder of references."""
    if labels is not None:
        return label_table(labels, "labels", region_order)
    for folder in (references, references.parent):
        if (folder / "dataset.json").is_file():
            content = read_json(folder / "dataset.json")
            return label_table(content.get("labels", {}), folder / "dataset.json", content.get("regions_class_order"))
    return None
