"""Scores the masks of a finished run by metrics that were added later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.data.case import Case, Dataset
from segment.data.layouts.common import image_files
from segment.data.problems import raise_errors
from segment.data.tolerance import tolerance_protocol
from segment.errors import UserError
from segment.evaluation.score import score_pairs
from segment.io.formats import stem
from segment.metrics.metric import Metric
from segment.report.run_page import write_page
from segment.report.tensorboard import write_board
from segment.runs.columns import COUNTS, OPTIONAL, OVERLAPS, TEST
from segment.runs.folder import RunFolder, read_run
from segment.runs.metrics import metric_infos
from segment.runs.scans import joined, write_scans
from segment.runs.summary import summarise, text_table, write_summary
from segment.workflow.experiment import Experiment

_KEYS = ["case", "split", "fold", "label"]


def rescore(experiment: Experiment) -> None:
    """Add the experiment's further metrics to a finished run, from its masks in predictions/; nothing is predicted.

    Args:
        experiment: The experiment of the run, which may have metrics that it was not scored by.

    Raises:
        UserError: When a mask or reference is missing, or is not the one that was scored.
    """
    folder = experiment.output
    run = read_run(folder)
    further = [metric for metric in experiment.metrics if metric.name not in run.scans]
    if not further:
        return
    dataset = experiment.data.open(raise_errors)
    found = run.scans.merge(_scored(dataset, run, further), how="left", on=_KEYS, suffixes=("", " again"))
    for column in (*OVERLAPS, *COUNTS):
        before, again = (found[name].to_numpy(float) for name in (column, f"{column} again"))
        if not np.allclose(before, again, rtol=0, atol=1e-9, equal_nan=True):
            raise UserError(
                f"{folder}: its masks in predictions/, or their references, are not those that were scored ({column} "
                "differs), so no further metric is computed. Train again with another name=, or restore the files."
            )
    older = [column for column in OPTIONAL if column in found and column not in run.scans]
    found = found[[*run.scans.columns, *older, *(metric.name for metric in further)]]
    infos = [*metric_infos(run.summary), *(metric.info for metric in further)]
    protocol = run.summary["protocol"] | tolerance_protocol(dataset.tolerance, dataset.labels.structures, further)
    summary = summarise(found, protocol, run.summary.get("cost"), infos)
    if "calibration" in run.summary:  # of probabilities, of which the masks tell nothing
        summary["calibration"] = run.summary["calibration"]
    (folder / "report.html").unlink()  # the mark of a finished run: a kill from here on makes the run score all again
    write_scans(folder / "scans.csv", found)
    write_summary(folder / "summary.json", summary)
    write_board(folder)
    write_page(folder)
    print(f"{folder}: its masks were scored by {', '.join(metric.name for metric in further)} too.")
    print(text_table(summary, found))


def _scored(dataset: Dataset, run: RunFolder, metrics: list[Metric]) -> pd.DataFrame:
    """The scores of the run's masks by the standard metrics, for comparison, and by further ones."""
    tables = []
    for (split, fold), rows in run.scans.groupby(["split", "fold"], sort=False):
        tests = split == TEST
        cases = {case.id: case for case in (dataset.test_cases if tests else dataset.cases)}
        masks = _by_case(run.path / "predictions" / TEST if tests else run.path / "predictions")
        pairs = [(name, *_files(name, masks, cases)) for name in rows["case"].unique()]
        options: dict[str, Any] = {"groups": dataset.groups(), "tolerance": dataset.tolerance}
        tables.append(score_pairs(pairs, dataset.labels, split, int(fold), metrics, **options))
    table = joined(tables)
    older = [column for column in OPTIONAL if column in table and column not in run.scans]
    return table[[*_KEYS, *OVERLAPS, *COUNTS, *older, *(metric.name for metric in metrics)]]


def _by_case(folder: Path) -> dict[str, Path]:
    return {stem(file): file for file in image_files(folder)}


def _files(name: str, masks: dict[str, Path], cases: dict[str, Case]) -> tuple[Path, Path]:
    """The mask and the reference of a scan."""
    case = cases.get(name)
    if case is None or case.label is None or name not in masks:
        lacks = "predictions/ has no mask" if name not in masks else "the data set has no reference"
        raise UserError(f"metrics: the finished run cannot be scored again, since {lacks} of its scan {name!r}.")
    return masks[name], case.label
