"""Predicts validation and test scans with the saved model, scores the masks and writes all reports of a run folder."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from segment.command_line import assign, command
from segment.data.case import Case
from segment.data.labels import IGNORE, Labels
from segment.data.tolerance import tolerance_protocol
from segment.evaluation.score import score_pairs
from segment.files import plain, write_json
from segment.inference.model import load_model, predictor_of
from segment.inference.precision import scoring_precision
from segment.inference.predictor import Predictor, Prepared, context_of
from segment.inference.speed import fastest
from segment.inference.windows import SlidingWindows
from segment.io.formats import mask_suffix
from segment.io.images import write_label
from segment.metrics.precision_recall import THRESHOLDS, average_precision, threshold_counts
from segment.parallel import overlapped
from segment.preprocessing.chunks import Chunked
from segment.preprocessing.store import Store
from segment.report.run_page import write_page
from segment.report.tensorboard import write_board
from segment.runs.confusion import FILE as CONFUSION
from segment.runs.confusion import write_confusion
from segment.runs.detection import KEY as DETECTION_KEY
from segment.runs.detection import detection_line, write_detection
from segment.runs.precision_recall import calibrations, precision_line, write_curves
from segment.runs.scans import TEST, joined, write_scans
from segment.runs.summary import summarise, text_table, write_summary
from segment.training.modules.segmentation import SegmentationModule
from segment.workflow.detection import LesionCollector
from segment.workflow.experiment import Experiment, Parts
from segment.workflow.masks import UNPROCESSED
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
    dataset, masks = work.dataset, folder / "predictions"
    shutil.rmtree(masks / UNPROCESSED, ignore_errors=True)  # of a run that was killed while it was post-processed
    score_of = experiment.detection
    lesions = None if score_of == "none" else LesionCollector(dataset.labels, score_of)
    pairs, counts = predict_cases(predictor, work.store, work.val, masks, lesions=lesions)
    split = "train" if experiment.overfit else "val"
    metrics, fold = experiment.metrics, int(experiment.fold)
    confusion = np.zeros((len(dataset.labels), len(dataset.labels)), np.int64)
    options: dict[str, Any] = {
        "fold": fold, "metrics": metrics, "tolerance": dataset.tolerance, "groups": dataset.groups()
    }  # fmt: skip
    scans = score_pairs(pairs, dataset.labels, split=split, confusion=confusion, **options)
    if work.test:
        tests, _ = predict_cases(predictor, work.store, work.test, masks / TEST, counted=False)
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
    if lesions is not None:
        summary[DETECTION_KEY] = write_detection(folder, lesions.parts, lesions.score)
    write_summary(folder / "summary.json", summary)
    write_json(folder / "provenance.json", record)
    write_board(folder)
    # Written last, because its presence marks the run as finished.
    write_page(folder)
    print(text_table(summary, scans))
    print(precision_line(list(model.labels.structures), average_precision(counts.numpy())))
    if lesions is not None:
        print(detection_line(summary[DETECTION_KEY]))
    _print_end(folder, dataset.notice)


def _print_end(folder: Path, notice: str) -> None:
    """Say what to know of the data set, and what to do with the run folder."""
    if notice:
        print(f"Note: {notice}")
    print(f"Report  {folder / 'report.html'}\nMasks   {folder / 'predictions'}")
    print(f"Curves  {shlex.join(['tensorboard', '--logdir', str(folder.parent)])}")
    print(f"Predict {command('predict', assign('model', str(folder)), 'input=FILE_OR_FOLDER', 'output=FOLDER')}")


def with_fastest_windows(experiment: Experiment, parts: Parts, work: Work, module: SegmentationModule) -> Parts:
    """The parts with batch size and layout of the windows chosen, so that model.json keeps how the model is scored."""
    windows, plan, scans = parts.windows, work.plan, [*work.val, *work.test]
    if not isinstance(windows, SlidingWindows) or not work.val:
        return parts
    count = sum(windows.count(work.store.load(case).image.shape[1:], plan.patch_size) for case in work.val)
    device = device_of(experiment.trainer.accelerator)
    chosen = fastest(
        windows,
        module.network.eval().to(device),
        (len(plan.normalization), *plan.patch_size),
        device,
        context_of(scoring_precision(experiment.trainer.precision), device),
        count * len(scans) // len(work.val),
    )
    return replace(parts, windows=chosen, inference={**parts.inference, **vars(chosen)})


def predict_cases(
    predictor: Predictor,
    store: Store,
    cases: Sequence[Case],
    folder: Path,
    counted: bool = True,
    lesions: LesionCollector | None = None,
) -> tuple[list[tuple[str, Path, Path]], Tensor]:
    """Predict scans and write their masks; the next is read and the last is written meanwhile.

    Args:
        predictor: The predictor.
        store: The prepared scans, including the references where they are counted.
        cases: The scans.
        folder: For the masks, on the scans' own grids.
        counted: Whether voxels are counted.
        lesions: Collects the lesions of the scans.

    Returns:
        (case id, mask file, reference file) of each; and counts of all voxels by probability on the plan's grid, see
        `segment.metrics.precision_recall.threshold_counts`.
    """
    labels = store.dataset.labels
    counts = torch.zeros(len(labels.structures), 2, THRESHOLDS, dtype=torch.int64)
    pairs = {case.id: (case.id, folder / f"{case.id}{mask_suffix(_label(case))}", _label(case)) for case in cases}

    def predict(case: Case, prepared: Prepared) -> np.ndarray:
        counter = Counter(labels, store.load(case).reference, counts) if counted else None
        grid = prepared[1].grid
        kept = lesions.room(grid) if lesions else None
        mask = predictor.predict_read(case.images, prepared, counter, kept)
        if lesions and kept is not None:
            lesions.add(case, grid, mask, kept)
        return labels.decode(mask)

    def write(case: Case, mask: np.ndarray) -> None:
        write_label(pairs[case.id][1], mask, like=case.images[0])

    done = overlapped(lambda case: predictor.read(case.images), predict, write, cases)
    said = "predicting" if counted else "predicting test scans"
    for _ in track(done, said, total=len(cases), console=Console(stderr=True)):
        pass
    return list(pairs.values()), counts


def _label(case: Case) -> Path:
    assert case.label is not None
    return case.label


class Counter:
    """Counts the voxels of a scan by probability while it is predicted.

    Args:
        labels: What the outputs stand for.
        reference: Class indices on the plan's grid.
        counts: To which those of the scan are added, see `threshold_counts`.
    """

    def __init__(self, labels: Labels, reference: Chunked | None, counts: Tensor) -> None:
        assert reference is not None
        whole = torch.from_numpy(reference[...])
        self.labels = labels
        self.truth = whole[None] if whole.ndim == 2 else whole
        self.counts = counts

    def __call__(self, axis: int, index: int, plane: Tensor) -> None:
        """Count the voxels of a plane (output, *plane)."""
        truth = self.truth.select(axis, index).to(plane.device)
        structures, regions = self.labels.structures, bool(self.labels.regions)
        self.counts += threshold_counts(plane, truth, structures, regions, IGNORE).cpu()


def device_of(accelerator: str) -> torch.device:
    """The torch device for an accelerator's name."""
    return torch.device({"gpu": "cuda", "cuda": "cuda", "mps": "mps"}.get(accelerator, "cpu"))
