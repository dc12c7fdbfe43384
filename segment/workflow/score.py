"""Predicts validation and test scans with the saved model, scores the masks and writes all reports of a run folder."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from segment import __version__
from segment.command_line import assign, command
from segment.data.tolerance import tolerance_protocol
from segment.evaluation.journal import Journal
from segment.evaluation.score import Pair, score_pairs
from segment.files import file_sha256, plain, write_json
from segment.inference.model import first_stage, load_model, predictor_of
from segment.inference.precision import scoring_precision
from segment.inference.predictor import context_of
from segment.inference.settings import on_device
from segment.inference.speed import fastest
from segment.inference.windows import SlidingWindows
from segment.metrics.precision_recall import average_precision
from segment.preprocessing.cascade import network_channels
from segment.report.run_page import write_page
from segment.report.tensorboard import write_board
from segment.runs.confusion import FILE as CONFUSION
from segment.runs.confusion import write_confusion
from segment.runs.detection import KEY as DETECTION_KEY
from segment.runs.detection import detection_line, write_detection
from segment.runs.precision_recall import calibrations, precision_line, write_curves
from segment.runs.reliability import EXPECTED, reliability_lines
from segment.runs.reliability import KEY as RELIABILITY
from segment.runs.scans import TEST, joined, write_scans
from segment.runs.summary import summarise, text_table, write_summary
from segment.training.modules.segmentation import SegmentationModule
from segment.workflow.calibrated import Calibrated
from segment.workflow.detection import LesionFinder
from segment.workflow.experiment import Experiment, Parts
from segment.workflow.kept import KeptScans
from segment.workflow.masks import UNPROCESSED
from segment.workflow.peers import Peers
from segment.workflow.predicted import ScanPredictor
from segment.workflow.prepare import Work

KEPT = ".scoring"
"""Folder within a run folder of what is known of scans until all are scored."""


def score(
    experiment: Experiment,
    parts: Parts,
    work: Work,
    record: Mapping[str, Any],
    cost: Mapping[str, Any],
    device: torch.device,
    peers: Peers,
    watched: int,
    calibrated: Calibrated | None = None,
) -> None:
    """Write predictions/, scans.csv, summary.json and all reports to a run folder, from its model.

    The model is read back from model/, so the scores are those of the model that users will share. All processes of the
    training predict and score a share of the scans; what is done of a run that was stopped meanwhile is kept.

    Args:
        experiment: The experiment; its run folder contains model/.
        parts: Provides the inference windows, and the modules that the model may name.
        work: The prepared data, whose validation and test scans are predicted.
        record: Content of provenance.json.
        cost: The training's cost, see `segment.runs.summary.summarise`.
        device: Where this process predicts.
        peers: The processes of the training.
        watched: Number of validation scans that were predicted during training.
        calibrated: What was found on the validation scans for the model, if it was calibrated.
    """
    folder = experiment.output
    model = load_model(folder, parts.trusted)
    precision = scoring_precision(experiment.trainer.precision)
    # Of validation scans, the store has the first stage's masks; test scans are predicted by both stages.
    previous = first_stage(model, on_device(model.settings(accelerator=device.type), device)) if work.test else None
    predictor = predictor_of(model, parts.windows, device, precision, previous=previous)
    weights = file_sha256(folder / "model" / "weights.safetensors")
    settings = weights, sorted(vars(parts.windows).items()), precision, experiment.detection, device.type, __version__
    kept = KeptScans(folder / KEPT, settings)
    masks = folder / "predictions"
    if peers.first:
        shutil.rmtree(masks / UNPROCESSED, ignore_errors=True)  # of a run that was killed while it was post-processed
    finder = None if experiment.detection == "none" else LesionFinder(work.dataset.labels, experiment.detection)
    scans = ScanPredictor(predictor, work.store, kept, masks, lesions=finder)
    tests = ScanPredictor(predictor, work.store, kept, masks / TEST, prepared=False)
    for part, cases, said in ((scans, work.val, "predicting"), (tests, work.test, "predicting test scans")):
        own = peers.share(cases)
        part.predict(own, said, shown=peers.first)
        if peers.count > 1:
            _scored(experiment, work, part.pairs(own), f"{KEPT}/scores-{peers.rank}.part")
    peers.wait()
    if peers.first:
        _write(experiment, parts, work, record, cost, scans, tests, watched, calibrated)
        shutil.rmtree(folder / KEPT, ignore_errors=True)


def _scored(
    experiment: Experiment,
    work: Work,
    pairs: Sequence[Pair],
    journal: str,
    split: str = "val",
    confusion: np.ndarray | None = None,
) -> pd.DataFrame:
    """The table of masks; those that a process of this run has scored are not scored again."""
    dataset, metrics, folder = work.dataset, experiment.metrics, experiment.output
    tolerance, others = dataset.tolerance, sorted((folder / KEPT).glob("scores-*.part"))
    with Journal(folder / journal, dataset.labels, metrics, tolerance or {}, others) as kept:
        return score_pairs(
            pairs,
            dataset.labels,
            split=split,
            fold=int(experiment.fold),
            metrics=metrics,
            tolerance=tolerance,
            groups=dataset.groups(),
            confusion=confusion,
            journal=kept,
        )


def _write(
    experiment: Experiment,
    parts: Parts,
    work: Work,
    record: Mapping[str, Any],
    cost: Mapping[str, Any],
    predicted: ScanPredictor,
    tests: ScanPredictor,
    watched: int,
    calibrated: Calibrated | None,
) -> None:
    """Write the tables and reports of scans that are predicted."""
    folder, dataset, metrics = experiment.output, work.dataset, experiment.metrics
    structures = list(dataset.labels.structures)
    counts, lesions = predicted.counted(work.val)
    split, journal = "train" if experiment.overfit else "val", f"{KEPT}/scores-0.part"
    confusion = np.zeros((len(dataset.labels), len(dataset.labels)), np.int64)
    scans = _scored(experiment, work, predicted.pairs(work.val), journal, split, confusion)
    if work.test:
        scans = joined([scans, _scored(experiment, work, tests.pairs(work.test), journal, TEST)])
    write_scans(folder / "scans.csv", scans)
    if not dataset.labels.regions:  # which overlap, so that they cannot be confused
        write_confusion(folder / CONFUSION, list(dataset.labels), confusion)
    write_curves(folder / "precision_recall.csv", structures, counts)
    protocol = {
        "dataset": dataset.name,
        "split": split,
        "fold": experiment.fold,
        **parts.windows.describe(),
        "precision": scoring_precision(experiment.trainer.precision),
        "weights": "last",
        **tolerance_protocol(dataset.tolerance, dataset.labels.structures, metrics),
        "validated_during_training": None if watched == len(work.val) else f"{watched} scans",
        "stopped_early": record.get("stopped_early"),
        "plan_from": work.planned_from,
        "nested": "inner split of the training scans" if experiment.nested else None,
    }
    summary = summarise(scans, protocol, cost, [metric.info for metric in metrics])
    summary["calibration"] = plain(calibrations(structures, counts))
    if calibrated:
        summary[RELIABILITY] = calibrated.record(scans)
        calibrated.write_expected(folder / EXPECTED)
    if experiment.detection != "none":
        summary[DETECTION_KEY] = write_detection(folder, lesions, experiment.detection)
    write_summary(folder / "summary.json", summary)
    write_json(folder / "provenance.json", record)
    write_board(folder)
    # Written last, because its presence marks the run as finished.
    write_page(folder)
    print(text_table(summary, scans))
    print(precision_line(structures, average_precision(counts)))
    _print_end(folder, summary, dataset.notice)


def _print_end(folder: Path, summary: Mapping[str, Any], notice: str) -> None:
    """Say what else was scored, what to know of the data set, and what to do with the run folder."""
    if DETECTION_KEY in summary:
        print(detection_line(summary[DETECTION_KEY]))
    if RELIABILITY in summary:
        print("\n".join(reliability_lines(summary[RELIABILITY])))
    if notice:
        print(f"Note: {notice}")
    print(f"Report  {folder / 'report.html'}\nMasks   {folder / 'predictions'}")
    print(f"Curves  {shlex.join(['tensorboard', '--logdir', str(folder.parent)])}")
    print(f"Predict {command('predict', assign('model', str(folder)), 'input=FILE_OR_FOLDER', 'output=FOLDER')}")


def with_fastest_windows(
    experiment: Experiment, parts: Parts, work: Work, module: SegmentationModule, device: torch.device
) -> Parts:
    """The parts with batch size and layout of the windows chosen, so that model.json keeps how the model is scored."""
    windows, plan, scans = parts.windows, work.plan, [*work.val, *work.test]
    if not isinstance(windows, SlidingWindows) or not work.val:
        return parts
    count = sum(windows.count(work.store.load(case).image.shape[1:], plan.patch_size) for case in work.val)
    chosen = fastest(
        windows,
        module.network.eval().to(device),
        (network_channels(plan, work.dataset.labels), *plan.patch_size),
        device,
        context_of(scoring_precision(experiment.trainer.precision), device),
        count * len(scans) // len(work.val),
    )
    return replace(parts, windows=chosen, inference={**parts.inference, **vars(chosen)})
