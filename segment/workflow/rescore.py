"""Scores the masks of a finished run by metrics that were added later."""

from __future__ import annotations

import numpy as np
import pandas as pd

from segment.data.case import Dataset
from segment.data.problems import raise_errors
from segment.data.tolerance import tolerance_protocol
from segment.errors import UserError
from segment.metrics.metric import Metric
from segment.report.run_page import write_page
from segment.report.tensorboard import write_board
from segment.runs.columns import COUNTS, OPTIONAL, OVERLAPS
from segment.runs.detection import KEY as DETECTION
from segment.runs.folder import RunFolder, read_run
from segment.runs.metrics import metric_infos
from segment.runs.reliability import KEY as RELIABILITY
from segment.runs.scans import write_scans
from segment.runs.summary import POSTPROCESSING, summarise, text_table, write_summary
from segment.workflow.experiment import Experiment
from segment.workflow.masks import scored_masks

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
    # Of probabilities, of which the masks tell nothing, and of masks before post-processing.
    summary |= {
        key: run.summary[key] for key in ("calibration", RELIABILITY, DETECTION, POSTPROCESSING) if key in run.summary
    }
    (folder / "report.html").unlink()  # the mark of a finished run: a kill from here on makes the run score all again
    write_scans(folder / "scans.csv", found)
    write_summary(folder / "summary.json", summary)
    write_board(folder)
    write_page(folder)
    print(f"{folder}: its masks were scored by {', '.join(metric.name for metric in further)} too.")
    print(text_table(summary, found))


def _scored(dataset: Dataset, run: RunFolder, metrics: list[Metric]) -> pd.DataFrame:
    """The scores of the run's masks by the standard metrics, for comparison, and by further ones."""
    table = scored_masks(dataset, run, metrics)
    older = [column for column in OPTIONAL if column in table and column not in run.scans]
    return table[[*_KEYS, *OVERLAPS, *COUNTS, *older, *(metric.name for metric in metrics)]]
