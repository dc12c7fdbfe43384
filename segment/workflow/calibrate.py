"""Calibrates the model of a run on its validation scans before they are scored, and that of a finished run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from segment.data.case import Case
from segment.errors import UserError
from segment.evaluation.calibration import Counts, Sample
from segment.files import read_mapping
from segment.inference.description import set_calibration, set_postprocessing
from segment.inference.held import held
from segment.inference.limits import ARGMAX, find_model
from segment.inference.model import load_model, predictor_of
from segment.inference.precision import scoring_precision
from segment.inference.predictor import Predictor, Prepared
from segment.inference.settings import windows_of
from segment.inference.windows import SlidingWindows
from segment.io.images import read_label
from segment.parallel import overlapped
from segment.runs.reliability import KEY as RELIABILITY
from segment.runs.summary import POSTPROCESSING, read_summary
from segment.workflow.calibrated import Calibrated
from segment.workflow.experiment import Experiment, Parts
from segment.workflow.peers import Peers
from segment.workflow.postprocess import AUTO as POSTPROCESS
from segment.workflow.postprocess import postprocess
from segment.workflow.prepare import Work, planned, prepare
from segment.workflow.score import score

AUTO = "auto"


def calibrate(
    experiment: Experiment, parts: Parts, work: Work, device: torch.device
) -> tuple[Parts, Calibrated | None]:
    """Fit temperature, thresholds and conformal masks to the validation scans, and write them into the model.

    The scans are predicted twice: first for the temperature, then with it, since thresholds are of its probabilities.

    Args:
        experiment: The experiment; its run folder contains model/.
        parts: Provides the inference windows, and the modules that the model may name.
        work: The prepared data.
        device: Where it is predicted.

    Returns:
        The parts with these windows, and what was found; what was given, and None, if it is not asked for.
    """
    if experiment.calibration != AUTO:
        return parts, None
    if not isinstance(parts.windows, SlidingWindows):
        raise UserError("calibration=auto: needs segment.inference.windows.SlidingWindows as inference. Leave it out.")
    model = load_model(experiment.output, parts.trusted)
    windows = copy.copy(parts.windows)
    windows.temperature, windows.thresholds, windows.decision = 1, None, ARGMAX

    def predictor() -> Predictor:
        return predictor_of(model, copy.copy(windows), device, scoring_precision(experiment.trainer.precision))

    windows.temperature, fit = _temperature(predictor(), work)
    counts = _counts(predictor(), work)
    windows.thresholds, windows.decision = counts.thresholds(), parts.windows.decision
    missed = counts.missed()
    own = {"temperature": windows.temperature, "thresholds": windows.thresholds}
    set_calibration(find_model(experiment.output), own, missed)
    found = Calibrated(windows, fit, missed, counts.dice, counts.expected)
    return replace(parts, windows=windows, inference={**parts.inference, **own}), found


def calibrate_finished(experiment: Experiment) -> None:
    """Calibrate the model of a finished run, unless it is calibrated or not asked for, and score it again.

    Nothing is trained. A run that was post-processed is so again, since its probabilities may now decide otherwise.

    Args:
        experiment: The experiment of the run.
    """
    folder = experiment.output
    summary = read_summary(folder / "summary.json")
    if experiment.calibration != AUTO or RELIABILITY in summary:
        return
    work = prepare(experiment)
    parts = experiment.build(planned(work.plan))
    (folder / "report.html").unlink()  # the mark of a finished run: a kill from here on makes the run score all again
    set_postprocessing(find_model(folder), ())
    model = load_model(folder, parts.trusted)
    parts = replace(parts, windows=windows_of(model.inference, {}), inference=model.inference)
    gpu = experiment.trainer.accelerator in ("gpu", "cuda")
    device = torch.device("cuda" if gpu else "cpu")
    parts, found = calibrate(experiment, parts, work, device)
    record, cost = read_mapping(folder / "provenance.json"), summary.get("cost") or {}
    watched = str(summary["protocol"].get("validated_during_training") or len(work.val)).split()[0]
    score(experiment, parts, work, record, cost, device, Peers(), int(watched), found)
    if POSTPROCESSING in summary:
        postprocess(replace(experiment, postprocessing=POSTPROCESS))


def _temperature(predictor: Predictor, work: Work) -> tuple[float, dict[str, float]]:
    """The temperature of the validation scans, and how well it fits."""
    store = work.store
    sample = Sample(store.dataset.labels, sum(math.prod(store.load(case).image.shape[1:]) for case in work.val))

    def add(case: Case, prepared: Prepared) -> None:
        reference = store.load(case).reference
        assert reference is not None
        whole = torch.from_numpy(reference[...])
        truth = whole[None] if whole.ndim == 2 else whole
        predictor.predict_read(
            case.images, prepared, lambda axis, index, plane: sample.add(index, plane, truth.select(axis, index))
        )

    _each(predictor, work.val, "calibrating, temperature", add)
    return sample.temperature()


def _counts(predictor: Predictor, work: Work) -> Counts:
    """Voxels of the validation scans by probability, on their own grids."""
    labels = work.dataset.labels
    counts = Counts(labels)

    def add(case: Case, prepared: Prepared) -> None:
        assert case.label is not None
        grid = prepared[1].grid
        kept = held((labels.outputs, *grid.shape), np.float32)  # as exact as what thresholds decide
        mask = predictor.predict_read(case.images, prepared, kept=kept)
        counts.add(case.id, kept, mask, labels.encode(read_label(case.label, grid).array))

    _each(predictor, work.val, "calibrating, thresholds", add)
    return counts


def _each(predictor: Predictor, cases: Sequence[Case], said: str, use: Callable[[Case, Prepared], None]) -> None:
    """Use every scan once it is prepared; the next one is read meanwhile."""
    done = overlapped(lambda case: predictor.read(case.images), use, lambda case, _: None, cases)
    for _ in track(done, said, total=len(cases), console=Console(stderr=True)):
        pass
