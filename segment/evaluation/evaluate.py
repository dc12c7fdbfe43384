"""Masks from any program against their references: a table of scans and its summary."""

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
"""A folder of masks, one mask, or several in an order of their own."""


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
        predictions: Masks; those of a folder are matched with the references by name, others by their place.
        references: Likewise.
        labels: Name to value, or to the list of values whose union is a region; None: those of a ``dataset.json`` in or
            beside the folder of references, else the values found.
        region_order: With regions, the value that each writes into a mask; None where it follows from them.
        split: What the table calls these scans.
        fold: Their fold; None when there is none.
        ignore_extra: Pass over predictions without a reference.
        metrics: What they are scored by.
        progress: Called with the scans done and all scans, after each.

    Returns:
        The table of scans, as `segment.runs.scans.COLUMNS` describes it, and its summary, as
        `segment.runs.summary.summarise` does.

    Raises:
        UserError: Masks are missing, cannot be read, lie on another grid than their references or hold values that no
            label has.
    """
    pairs = pair_masks(predictions, references, ignore_extra)
    found = _declared(labels, region_order, pairs[0][2].parent) or discover_labels(pairs)
    done: list[str] = []

    def advance(case: str) -> None:
        done.append(case)
        progress(len(done), len(pairs))

    scans = score_pairs(pairs, found, split, fold, metrics, advance=advance)
    protocol = {
        "split": split,
        "fold": fold,
        **(_made_with(predictions) if isinstance(predictions, Path) else {}),
        "predictions": _told(predictions),
        "references": _told(references),
    }
    return scans, summarise(scans, protocol, metrics=[metric.info for metric in metrics])


def write_evaluation(folder: Path, scans: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """Write ``scans.csv`` and ``summary.json`` into a folder, which is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    write_scans(folder / "scans.csv", scans)
    write_summary(folder / "summary.json", summary)


def _told(masks: Masks) -> str | list[str]:
    return str(masks) if isinstance(masks, Path) else [str(file) for file in masks]


def _made_with(predictions: Path) -> dict[str, Any]:
    """Overlap, test-time augmentation and precision of masks that ``segment predict`` made; else nothing."""
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


def _declared(
    given: Mapping[str, int | Sequence[int]] | None, region_order: Sequence[int] | None, references: Path
) -> Labels | None:
    """Labels that the user gives, or those of a dataset.json in or beside the folder of references."""
    if given is not None:
        return label_table(given, "labels", region_order)
    for folder in (references, references.parent):
        if (folder / "dataset.json").is_file():
            content = read_json(folder / "dataset.json")
            return label_table(content.get("labels", {}), folder / "dataset.json", content.get("regions_class_order"))
    return None
