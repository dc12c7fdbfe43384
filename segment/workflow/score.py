"""Predicts validation and test scans with the saved model, scores the masks and writes all reports of a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from segment.command_line import assign, command
from segment.data.case import Case, Dataset
from segment.data.labels import IGNORE
from segment.data.tolerance import tolerance_protocol
from segment.evaluation.score import score_pairs
from segment.files import plain, write_json
from segment.inference.model import load_model, predictor_of
from segment.inference.precision import scoring_precision
from segment.inference.predictor import Predictor
from segment.io.formats import suffix
from segment.io.images import write_label
from segment.metrics.precision_recall import THRESHOLDS, average_precision, threshold_counts
from segment.preprocessing.store import Store
from segment.report.run_page import write_page
from segment.report.tensorboard import write_board
from segment.runs.confusion import FILE as CONFUSION
from segment.runs.confusion import write_confusion
from segment.runs.precision_recall import calibrations, precision_line, write_curves
from segment.runs.scans import TEST, joined, write_scans
from segment.runs.summary import summarise, text_table, write_summary
from segment.workflow.experiment import Experiment, Parts
from segment.workflow.prepare import Work


def score(
    experiment: Experiment,
    parts: Parts,
    work: Work,
    record: Mapping[str, Any],
    cost: Mapping[str, Any],
) -> None:
    """Write predictions/, scans.csv, summary.json and all reports to a run folder, from its model.

    The model is read back from model/, so the scores are those of the model that users will share.

    Args:
        experiment: The experiment; its run folder contains model/.
        parts: Provides the inference windows, and the modules that the model may name.
        work: The prepared data, whose validation and test scans are predicted.
        record: Content of provenance.json.
        cost: The training's cost, see `segment.runs.summary.summarise`.
    """
    folder = experiment.output
    model = load_model(folder, parts.trusted)
    precision = scoring_precision(experiment.trainer.precision)
    predictor = predictor_of(model, parts.windows, device_of(experiment.trainer.accelerator), precision)
    pairs = []
    counts = torch.zeros(len(model.labels.structures), 2, THRESHOLDS, dtype=torch.int64)
    dataset, masks = work.dataset, folder / "predictions"
    for case in track(work.val, "predicting", console=Console(stderr=True)):
        assert case.label is not None
        target = masks / f"{case.id}{suffix(case.label)}"
        counts += predict_case(predictor, work.store, case, target)
        pairs.append((case.id, target, case.label))
    split = "train" if experiment.overfit else "val"
    metrics, fold = experiment.metrics, int(experiment.fold)
    confusion = np.zeros((len(dataset.labels), len(dataset.labels)), np.int64)
    options: dict[str, Any] = {
        "fold": fold, "metrics": metrics, "tolerance": dataset.tolerance, "groups": dataset.groups()
    }  # fmt: skip
    scans = score_pairs(pairs, dataset.labels, split=split, confusion=confusion, **options)
    if work.test:
        tests = predict_tests(predictor, dataset, work.test, masks / TEST)
        scans = joined([scans, score_pairs(tests, dataset.labels, split=TEST, **options)])
    write_scans(folder / "scans.csv", scans)
    if not dataset.labels.regions:  # which overlap, so that they cannot be confused
        write_confusion(folder / CONFUSION, list(dataset.labels), confusion)
    write_curves(folder / "precision_recall.csv", [*model.labels.structures], counts.numpy())
    protocol = {
        "dataset": dataset.name,
        "split": split,
        "fold": experiment.fold,
        **parts.windows.describe(),
        "precision": precision,
        "weights": "last",
        **tolerance_protocol(dataset.tolerance, dataset.labels.structures, metrics),
        "stopped_early": record.get("stopped_early"),
        "plan_from": work.planned_from,
        "nested": "inner split of the training scans" if experiment.nested else None,
    }
    summary = summarise(scans, protocol, cost, [metric.info for metric in metrics])
    summary["calibration"] = plain(calibrations([*model.labels.structures], counts.numpy()))
    write_summary(folder / "summary.json", summary)
    write_json(folder / "provenance.json", record)
    write_board(folder)
    # Written last, because its presence marks the run as finished.
    write_page(folder)
    print(text_table(summary, scans))
    print(precision_line(list(model.labels.structures), average_precision(counts.numpy())))
    if dataset.notice:
        print(f"Note: {dataset.notice}")
    print(f"Report  {folder / 'report.html'}\nMasks   {folder / 'predictions'}")
    print(f"Curves  {shlex.join(['tensorboard', '--logdir', str(folder.parent)])}")
    print(f"Predict {command('predict', assign('model', str(folder)), 'input=FILE_OR_FOLDER', 'output=FOLDER')}")


def predict_case(predictor: Predictor, store: Store, case: Case, target: Path) -> Tensor:
    """Predict a scan and write its mask.

    Args:
        predictor: The predictor.
        store: The prepared scans, including the reference.
        case: The scan.
        target: File for the mask, on the scan's own grid.

    Returns:
        Counts of its voxels by probability on the plan's grid, see
        `segment.metrics.precision_recall.threshold_counts`.
    """
    labels, reference = store.dataset.labels, store.load(case).reference
    assert reference is not None
    whole = reference[...]
    truth = torch.from_numpy(whole[None] if whole.ndim == 2 else whole)
    counts = torch.zeros(len(labels.structures), 2, THRESHOLDS, dtype=torch.int64)

    def count(axis: int, index: int, plane: Tensor) -> None:
        expected = truth.select(axis, index).to(plane.device)
        counts.add_(threshold_counts(plane, expected, labels.structures, bool(labels.regions), IGNORE).cpu())

    mask = predictor.predict_files(case.images, count)
    write_label(target, labels.decode(mask), like=case.images[0])
    return counts


def predict_tests(
    predictor: Predictor, dataset: Dataset, cases: Sequence[Case], folder: Path
) -> list[tuple[str, Path, Path]]:
    """Predict test scans and write their masks.

    Returns:
        (case id, mask file, reference file) of each.
    """
    pairs = []
    for case in track(cases, "predicting test scans", console=Console(stderr=True)):
        assert case.label is not None
        target = folder / f"{case.id}{suffix(case.label)}"
        write_label(target, dataset.labels.decode(predictor.predict_files(case.images)), like=case.images[0])
        pairs.append((case.id, target, case.label))
    return pairs


def device_of(accelerator: str) -> torch.device:
    """The torch device for an accelerator's name."""
    return torch.device({"gpu": "cuda", "cuda": "cuda", "mps": "mps"}.get(accelerator, "cpu"))
