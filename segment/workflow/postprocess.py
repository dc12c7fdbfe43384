"""Decides the post-processing of finished runs on their validation scans, and scores their masks with it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress

from segment.data.case import Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import image_files
from segment.data.problems import raise_errors
from segment.errors import UserError
from segment.evaluation.postprocessing import Decision, decide
from segment.evaluation.score import Change
from segment.files import written_whole
from segment.inference.description import set_postprocessing
from segment.inference.limits import find_model
from segment.inference.postprocessing import postprocessed
from segment.io.images import read_label, write_label
from segment.report.run_page import write_page
from segment.report.tensorboard import write_board
from segment.runs.columns import OVERLAPS, TEST
from segment.runs.confusion import FILE as CONFUSION
from segment.runs.confusion import write_confusion
from segment.runs.detection import KEY as DETECTION
from segment.runs.folder import RunFolder, read_run
from segment.runs.metrics import metric_infos
from segment.runs.reliability import KEY as RELIABILITY
from segment.runs.scans import joined, metric_columns, write_scans
from segment.runs.summary import POSTPROCESSING, summarise, text_table, write_summary
from segment.text import table
from segment.workflow.experiment import Experiment
from segment.workflow.masks import UNPROCESSED, mask_pairs, masks_folder, scored_masks

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class Postprocessed:
    """The post-processing of one or several runs.

    Attributes:
        decision: The decision on the validation scans of all of them.
        labels: Meaning of their masks.
        scans: The scores of their masks after it.
        confusion: Voxels of every pair of classes in the validation scans after it; None without steps.
    """

    decision: Decision
    labels: Labels
    scans: pd.DataFrame
    confusion: np.ndarray | None

    @property
    def change(self) -> Change | None:
        """The steps as a function of class indices and spacing; None without any."""
        return _change(self.decision, self.labels)

    @property
    def protocol(self) -> dict[str, str]:
        """The entry of a summary's protocol."""
        return {POSTPROCESSING: self.decision.words()}


def postprocess(experiment: Experiment) -> None:
    """Decide the post-processing of a finished run, unless it is decided or not asked for.

    If a step is kept, masks, scores, reports and model.json are those with it; the masks as they were predicted stay in
    predictions/unprocessed/.

    Args:
        experiment: The experiment of the run.

    Raises:
        UserError: When a mask or a reference is missing, or the run was scored by a metric that is not asked for now.
    """
    run = read_run(experiment.output) if experiment.postprocessing == AUTO else None
    if run is None or POSTPROCESSING in run.summary:
        return
    found = decided(experiment, [run])
    protocol = run.summary["protocol"] | found.protocol
    summary = summarise(found.scans, protocol, run.summary.get("cost"), metric_infos(run.summary))
    kept = {key: run.summary[key] for key in ("calibration", RELIABILITY, DETECTION) if key in run.summary}
    (run.path / "report.html").unlink()  # the mark of a finished run: a kill from here on makes the run score all again
    if found.change:
        for split in run.scans["split"].unique():
            _replace_masks(run, str(split), found.change, found.labels)
        set_postprocessing(find_model(run.path), found.decision.steps)
        write_scans(run.path / "scans.csv", found.scans)
    if found.confusion is not None and not found.labels.regions:
        write_confusion(run.path / CONFUSION, list(found.labels), found.confusion)
    write_summary(run.path / "summary.json", summary | kept | {POSTPROCESSING: found.decision.as_dict()})
    write_board(run.path)
    write_page(run.path)
    print(told(found.decision))
    if found.change:
        print(text_table(summary, found.scans))


def decided(experiment: Experiment, runs: Sequence[RunFolder]) -> Postprocessed:
    """Decide the post-processing of runs on the validation scans of all of them, and score all of their masks after it.

    Args:
        experiment: The experiment that they belong to.
        runs: Finished runs, such as the folds of a cross-validation; what was decided for one alone is left out.

    Raises:
        UserError: As `postprocess`.
    """
    dataset = experiment.data.open(raise_errors)
    validation = [(run, run.scans.loc[run.scans["split"] != TEST]) for run in runs]
    pairs = [
        pair
        for run, rows in validation
        for pair in mask_pairs(dataset, run, rows["split"].iloc[0], rows["case"].unique(), unprocessed=True)
    ]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("deciding post-processing", total=1)
        decision = decide(pairs, dataset.labels, lambda share: progress.advance(task, share))
    if not decision.steps and not any((run.summary.get(POSTPROCESSING) or {}).get("steps") for run in runs):
        return Postprocessed(decision, dataset.labels, joined(run.scans for run in runs), None)
    confusion = np.zeros((len(dataset.labels), len(dataset.labels)), np.int64)
    scans = [_scored(experiment, dataset, run, _change(decision, dataset.labels), confusion) for run in runs]
    return Postprocessed(decision, dataset.labels, joined(scans), confusion)


def write_mask(file: Path, target: Path, change: Change, labels: Labels) -> None:
    """Write a mask after post-processing.

    Args:
        file: The mask as it was predicted.
        target: The file to write.
        change: The post-processing.
        labels: Meaning of the mask.
    """
    mask = read_label(file)
    write_label(target, labels.decode(change(labels.encode(mask.array), mask.grid.spacing)), like=file)


def told(decision: Decision) -> str:
    """The decision as lines for a terminal."""
    record = decision.as_dict()
    rows = [
        [
            row["step"],
            f"{row['difference']:+.4f}",
            _interval(row["ci95"]),
            row["lowest"],
            "yes" if row["kept"] else "no",
        ]
        for row in record["structures"]
    ]
    heads = ["post-processing", "foreground Dice", "95 % interval", "lowest label", "kept"]
    lines = [table(heads, rows, left=["post-processing", "lowest label", "kept"]), ""] if rows else []
    return "\n".join([*lines, f"Post-processing: {decision.words()}"])


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:+.4f} - {ends[1]:+.4f}"


def _change(decision: Decision, labels: Labels) -> Change | None:
    if not decision.steps:
        return None
    return lambda mask, spacing: postprocessed(mask, decision.steps, labels, spacing)


def _scored(
    experiment: Experiment, dataset: Dataset, run: RunFolder, change: Change | None, confusion: np.ndarray
) -> pd.DataFrame:
    known = {metric.name for metric in experiment.metrics} | set(OVERLAPS)
    if lacking := [name for name in metric_columns(run.scans) if name not in known]:
        raise UserError(
            f"{run.path}: was scored by {', '.join(lacking)} too, which this command does not compute, so its "
            "post-processing cannot be scored. Give the metrics that it was scored by."
        )
    return scored_masks(dataset, run, experiment.metrics, True, change, confusion)


def _replace_masks(run: RunFolder, split: str, change: Change, labels: Labels) -> None:
    """Post-process the masks of a split; as they were predicted, they stay in a folder beside them."""
    folder = masks_folder(run, split)
    kept = run.path / "predictions" / UNPROCESSED / folder.relative_to(run.path / "predictions")
    for file in image_files(folder):
        with written_whole(kept / file.name) as temporary:
            shutil.copyfile(file, temporary)
        write_mask(kept / file.name, file, change, labels)
