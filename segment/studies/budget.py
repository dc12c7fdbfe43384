"""Estimates how long a study's training takes on this machine, and how many steps fit into a time budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segment.errors import UserError
from segment.files import read_mapping
from segment.training.callbacks.stopwatch import Stopwatch
from segment.workflow.experiment import Experiment
from segment.workflow.prepare import prepare
from segment.workflow.train import assemble, planned, silence_libraries

TRIAL = 20


@dataclass(frozen=True)
class Trial:
    """The measurements of a short trial.

    Attributes:
        step: Seconds per training step.
        scan: Seconds for predicting and scoring a validation scan, without mirrored views.
        scans: Number of validation scans.
        views: Number of mirrored views averaged for the final scores, including the original.
        tests: Number of test scans that the final scores include.
    """

    step: float
    scan: float
    scans: int
    views: int
    tests: int = 0


def known_pace(folder: Path) -> float | None:
    """Seconds per step of a finished fold in this folder; None if there is none."""
    for path in sorted(folder.glob("fold*/summary.json")):
        cost = read_mapping(path).get("cost")
        pace = cost.get("seconds_per_step") if isinstance(cost, dict) else None
        if isinstance(pace, int | float) and not isinstance(pace, bool) and 0 < pace < 1e6:
            return float(pace)
    return None


def forecast(pace: float | None, folds: int, steps: int) -> str:
    """A sentence on how long the training takes on this machine; empty if the pace is unknown.

    Args:
        pace: Seconds per step; None if unknown.
        folds: Number of folds to train.
        steps: Training steps per fold.
    """
    if pace is None or not folds:
        return ""
    hours = pace * steps * folds / 3600
    duration = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
    plural = "s" * (folds > 1)
    return f" About {duration} of training here: {folds} fold{plural} x {steps:,} steps of {pace:.3g} s."


def trial_steps(experiment: Experiment) -> int:
    """Number of batches for a trial of this training: a multiple of the accumulated batches."""
    batches = experiment.trainer.accumulate_grad_batches
    return -(-min(TRIAL, experiment.trainer.max_steps) // batches) * batches


def measure(trial: Experiment) -> Trial:
    """Measure the time of some training steps and validation scans; nothing is kept.

    Args:
        trial: One fold, with ``fast_dev_run`` equal to the steps per epoch.

    Raises:
        UserError: When several devices are requested.
    """
    if trial.trainer.devices not in (1, "1", [0]):
        raise UserError("budget: its timing trial runs on one device only. Give steps=N instead.")
    silence_libraries()
    work = prepare(trial)
    parts = trial.build(planned(work.plan))
    watch = Stopwatch(trial.trainer.fast_dev_run)
    module, trainer, datamodule = assemble(trial, parts, work, [watch])
    trainer.fit(module, datamodule)
    if watch.seconds_per_step is None or watch.seconds_per_scan is None:
        raise KeyboardInterrupt  # which Lightning swallows
    views = len(parts.windows.flips(len(work.plan.patch_size)))
    tests = sum(case.label is not None for case in work.dataset.test_cases)
    return Trial(watch.seconds_per_step, watch.seconds_per_scan, len(work.val), views, tests)


def steps_within(seconds: float, experiment: Experiment, pace: Trial, option: str) -> int:
    """Number of steps that fit into a fold's time, including validation and the final scoring.

    Args:
        seconds: For training and scoring one fold.
        experiment: The fold.
        pace: The trial's measurements.
        option: The user's option, for the message.

    Returns:
        From 1 to the steps of the configuration.

    Raises:
        UserError: When not even one step fits.
    """
    scoring = pace.scans * pace.scan
    between = scoring / (experiment.steps_per_epoch * experiment.trainer.check_val_every_n_epoch)
    final = (pace.scans + pace.tests) * pace.scan * pace.views
    steps = int((seconds - final) / (pace.step + between))
    if steps < 1:
        raise UserError(
            f"{option}: is too small. Scoring a fold takes about {final:.0f} s here and a training "
            f"step {pace.step:.3g} s, but each fold has only {seconds:.0f} s."
        )
    return min(steps, experiment.trainer.max_steps)
