"""Scores masks from any program against their references: a table of scans and its summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment import provenance
from segment.data.labels import Labels
from segment.data.layouts.common import label_table, read_json
from segment.data.tolerance import tolerance_protocol, tolerances
from segment.errors import UserError
from segment.evaluation.consensus import write_consensus
from segment.evaluation.journal import FILE as JOURNAL
from segment.evaluation.journal import Journal
from segment.evaluation.match import discover_labels, pair_masks
from segment.evaluation.raters import FILE as RATERS
from segment.evaluation.raters import KEY as RATERS_KEY
from segment.evaluation.raters import named_raters, rater_summary, score_raters
from segment.evaluation.score import score_pairs
from segment.files import plain, write_json, write_text
from segment.metrics.metric import Metric
from segment.metrics.standard import STANDARD
from segment.runs.cells import csv_text
from segment.runs.confusion import FILE as CONFUSION
from segment.runs.confusion import write_confusion
from segment.runs.predictions import image_files_of, prediction_settings, predictions_record
from segment.runs.scans import write_scans
from segment.runs.subgroups import KEY as SUBGROUPS
from segment.runs.subgroups import read_subgroups, subgroup_summary
from segment.runs.summary import summarise, write_summary

Masks = Path | Sequence[Path]
"""A folder of masks, one mask, or several in a given order."""


@dataclass(frozen=True)
class Evaluated:
    """Scored masks.

    Attributes:
        scans: Table of scans, as `segment.runs.scans.COLUMNS` describes it.
        summary: Its summary, as `segment.runs.summary.summarise` returns it.
        labels: What the values in the masks stand for.
        confusion: (class of the reference, class of the prediction) voxels of all scans.
        record: Content of ``provenance.json``.
        raters: Scores against every rater and of the raters against each other, if there are several.
    """

    scans: pd.DataFrame
    summary: dict[str, Any]
    labels: Labels
    confusion: np.ndarray
    record: Mapping[str, Any]
    raters: pd.DataFrame | None = None


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
    command: Sequence[str] = (),
    tolerance: float | Mapping[str, float] | None = None,
    by: str | None = None,
    table: Path | None = None,
    kept: Path | None = None,
) -> Evaluated:
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
        command: Arguments of ``segment``; by default those of this process.
        tolerance: Distance in mm within which two surfaces agree (for NSD), for all labels or by name; None: 2 mm.
        by: Column of the table whose values divide the scans into subgroups, such as site; None: no subgroups.
        table: A CSV with one row per scan; see `segment.runs.subgroups.read_subgroups`.
        kept: File that keeps every scored scan, so that a stopped command goes on, until `write_evaluation` removes it
            from its folder; None: none.

    Raises:
        UserError: Masks are missing, cannot be read, are not on the grid of their references or contain values that no
            label has.
    """
    started = time.time()
    pairs = pair_masks(predictions, references, ignore_extra)
    names = _subgroups(by, table, [case for case, *_ in pairs])
    found = _declared_labels(labels, region_order, pairs[0][2].parent) or discover_labels(pairs)
    done: list[str] = []

    def advance(case: str) -> None:
        done.append(case)
        progress(len(done), len(pairs))

    confusion = np.zeros((len(found), len(found)), np.int64)
    agreed = tolerances(tolerance, found.structures, "tolerance")
    with Journal(kept, found, metrics, agreed) as journal:
        options: dict[str, Any] = {"confusion": confusion, "journal": journal, "processes": True}
        scans = score_pairs(pairs, found, split, fold, metrics, agreed, advance, **options)
    made = predictions_record({file.parent for _, file, _ in pairs})
    protocol = {
        "split": split,
        "fold": fold,
        **tolerance_protocol(agreed, found.structures, metrics),
        **prediction_settings(made),
        "predictions": _as_text(predictions),
        "references": _as_text(references),
    }
    described = {"labels": found.declared, "region_order": list(found.region_order) or None}
    record = provenance.collect(0, started, command, **described, cases=_cases(pairs, made))
    infos = [metric.info for metric in metrics]
    summary = summarise(scans, protocol, metrics=infos)
    if by is not None:
        summary[SUBGROUPS] = plain(subgroup_summary(scans, by, names, infos))
    return Evaluated(scans, summary, found, confusion, record)


def evaluate_raters(
    predictions: Path,
    references: Sequence[Path],
    output: Path,
    consensus: str = "staple",
    labels: Mapping[str, int | Sequence[int]] | None = None,
    region_order: Sequence[int] | None = None,
    ignore_extra: bool = False,
    metrics: Sequence[Metric] = STANDARD,
    tolerance: float | Mapping[str, float] | None = None,
    **options: Any,
) -> Evaluated:
    """Score masks against the masks of several raters.

    Args:
        predictions: Folder of masks.
        references: The folder of every rater, at least two.
        output: Folder in which ``consensus/`` is written: the masks on which the raters agree, by every method.
        consensus: The method whose masks are the references of the table of scans: ``staple`` or ``majority``.
        labels: As for `evaluate`, like all other arguments.
        region_order: See there.
        ignore_extra: See there.
        metrics: See there.
        tolerance: See there.
        **options: See there.

    Returns:
        The scores against the consensus; ``raters`` and ``raters`` of the summary hold those against every rater and of
        the raters against each other.

    Raises:
        UserError: As `evaluate`; or the raters did not annotate the same scans.
    """
    raters = named_raters(references)
    pairs = [pair for folder in references for pair in pair_masks(predictions, folder, ignore_extra)]
    own = _declared_labels(labels, region_order, references[0]) or discover_labels(pairs)
    folders = write_consensus(raters, output / "consensus")
    order = list(own.region_order) or None
    given: dict[str, Any] = {"ignore_extra": ignore_extra, "metrics": metrics, "tolerance": tolerance, **options}
    found = evaluate(predictions, folders[consensus], own.declared, order, **given)
    agreed = tolerances(tolerance, own.structures, "tolerance")
    scores = score_raters(predictions, raters, folders, own, metrics, agreed, ignore_extra)
    summary = rater_summary(scores, list(raters), [metric.info for metric in metrics])
    found.summary[RATERS_KEY] = plain(summary)
    found.summary["protocol"] |= {"references": [str(folder) for folder in references], "consensus": consensus}
    return replace(found, raters=scores)


def write_evaluation(folder: Path, found: Evaluated) -> None:
    """Write ``scans.csv``, ``summary.json``, ``confusion.csv`` and ``provenance.json`` into a folder.

    Labels that overlap cannot be confused: with regions there is no ``confusion.csv``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_scans(folder / "scans.csv", found.scans)
    write_summary(folder / "summary.json", found.summary)
    write_json(folder / "provenance.json", found.record)
    if found.raters is not None:
        write_text(folder / RATERS, csv_text(found.raters))
    if not found.labels.regions:
        write_confusion(folder / CONFUSION, list(found.labels), found.confusion)
    (folder / JOURNAL).unlink(missing_ok=True)


def _subgroups(by: str | None, table: Path | None, cases: Sequence[str]) -> dict[str, str]:
    """The subgroup of every scan; empty without subgroups."""
    if by is None:
        return {}
    if table is None:
        raise UserError(f"by={by}: give the table that has this column too, table=FILE.csv, one row per scan.")
    return read_subgroups(table, by, cases)


def _as_text(masks: Masks) -> str | list[str]:
    return str(masks) if isinstance(masks, Path) else [str(file) for file in masks]


def _cases(pairs: Sequence[tuple[str, Path, Path]], made: Mapping[str, Any]) -> dict[str, Any]:
    """The files of every scan; its images are those that the record of the predictions names."""
    cases = {}
    for case, prediction, reference in pairs:
        images = image_files_of(made, prediction.name)
        files = {"label": str(reference.absolute()), "prediction": str(prediction.absolute())}
        cases[case] = {"images": images if all(Path(file).is_file() for file in images) else [], **files}
    return cases


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
