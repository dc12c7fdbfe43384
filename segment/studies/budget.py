"""How long the training of a study takes on this machine, and how many steps fit into given hours."""

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
    """What a short trial measured.

    Attributes:
        step: Seconds of a training step.
        scan: Seconds of predicting and scoring a validation scan, without mirrored views.
        scans: How many scans validate.
        views: Mirrored views of which the final scores average, itself included.
    """

    step: float
    scan: float
    scans: int
    views: int


def known_pace(folder: Path) -> float | None:
    """Seconds a step that a finished fold in this folder took; None where there is none."""
    for path in sorted(folder.glob("fold*/summary.json")):
        cost = read_mapping(path).get("cost")
        pace = cost.get("seconds_per_step") if isinstance(cost, dict) else None
        if isinstance(pace, int | float) and not isinstance(pace, bool) and 0 < pace < 1e6:
            return float(pace)
    return None


def forecast(pace: float | None, folds: int, steps: int) -> str:
    """A sentence of how long the training takes here; empty as long as nothing was measured.

    Args:
        pace: Seconds a step; None where not known.
        folds: How many folds are trained.
        steps: Of each of them.
    """
    if pace is None or not folds:
        return ""
    hours = pace * steps * folds / 3600
    shown = f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
    return f" About {shown} of training here: {folds} fold{'s' * (folds > 1)} x {steps:,} steps of {pace:.3g} s."


def trial_steps(experiment: Experiment) -> int:
    """How many steps a trial of this training takes: whole ones, where gradients are accumulated."""
    batches = experiment.trainer.accumulate_grad_batches
    return -(-min(TRIAL, experiment.trainer.max_steps) // batches) * batches


def measure(trial: Experiment) -> Trial:
    """Train some steps and validate some scans; nothing is kept.

    Args:
        trial: One fold, with ``fast_dev_run`` for as many steps as an epoch has.

    Raises:
        UserError: When several devices are asked for.
    """
    if trial.trainer.devices not in (1, "1", [0]):
        raise UserError("budget: the trial that it needs runs on one device. Give steps=N in its place.")
    silence_libraries()
    work = prepare(trial)
    parts = trial.build(planned(work.plan))
    watch = Stopwatch(trial.trainer.fast_dev_run)
    module, trainer, datamodule = assemble(trial, parts, work, [watch])
    trainer.fit(module, datamodule)
    if watch.seconds_per_step is None or watch.seconds_per_scan is None:
        raise KeyboardInterrupt  # which Lightning keeps to itself
    views = len(parts.windows.flips(len(work.plan.patch_size)))
    return Trial(watch.seconds_per_step, watch.seconds_per_scan, len(work.val), views)


def steps_within(seconds: float, experiment: Experiment, pace: Trial, asked: str) -> int:
    """How many steps fit into the time of a fold, with validation in between and scoring at its end.

    Args:
        seconds: For training and scoring one fold.
        experiment: The fold.
        pace: What the trial measured.
        asked: What the user asked for, for the message.

    Returns:
        From 1 to the steps of the configuration.

    Raises:
        UserError: When not even one fits.
    """
    scoring = pace.scans * pace.scan
    between = scoring / (experiment.steps_per_epoch * experiment.trainer.check_val_every_n_epoch)
    steps = int((seconds - scoring * pace.views) / (pace.step + between))
    if steps < 1:
        raise UserError(
            f"{asked}: is not enough. Scoring a fold takes about {scoring * pace.views:.0f} s here and a training step "
            f"{pace.step:.3g} s, and each fold has {seconds:.0f} s."
        )
    return min(steps, experiment.trainer.max_steps)
