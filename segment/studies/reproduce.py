"""Runs a published study, fold by fold, and sets our numbers beside the published ones."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segment.errors import UserError
from segment.files import read_mapping
from segment.runs.folder import is_complete
from segment.studies.budget import forecast, known_pace, measure, steps_within, trial_steps
from segment.studies.conclusion import conclude
from segment.studies.folds import finished_folds, valid_folds
from segment.studies.study import Study, citation, folds_of
from segment.text import printable
from segment.training.callbacks.stopwatch import Stopwatch
from segment.workflow.cross_validate import sum_up
from segment.workflow.experiment import DataSource, Experiment
from segment.workflow.train import finished, train


@dataclass(frozen=True)
class Request:
    """What is to be reproduced.

    Attributes:
        fold: One fold, or ``all``.
        budget: Hours for all that is asked for; None for the study's steps.
        steps: Training steps of a fold; None for the study's.
        format: text or json.
        entered: Folder of studies in which what was measured is entered; None: nowhere.
    """

    fold: int | str
    budget: float | None
    steps: int | None
    format: str
    entered: Path | None


def reproduce(study: Study, request: Request) -> None:
    """Say what the study needs, train what is not finished, print and write the table."""
    # Programs read standard output; what training prints is for people.
    aside = contextlib.redirect_stdout(sys.stderr) if request.format == "json" else contextlib.nullcontext()
    with aside:
        present = announce(study, request)
        shares = sum(map(len, present.values()))
        for name, folds in present.items():
            train_run(study, name, folds, request, shares)
    conclude(study, list(present), request.format, request.entered)


def announce(study: Study, request: Request) -> dict[str, list[int]]:
    """Say what is to be reproduced, what it needs and takes, and what it will be set beside.

    Returns:
        The folds that were asked for of every run whose data set is here.

    Raises:
        UserError: When none is, or a fold that is there diverged.
    """
    print(f"{study.name}: {citation(study)}\n")
    for name in study.runs:
        valid_folds(study.output / name)  # so that one that diverged is told before the others are trained
    present, missing = {}, {}
    for name in study.asked:
        folder, one = study.output / name, study.experiments.experiment(name, 0)
        needs, folds = required_data(one), asked_folds(request.fold, one)
        steps = begun_steps(folder) or request.steps or one.trainer.max_steps
        left = [fold for fold in folds if not is_complete(folder / f"fold{fold}")]
        beside = [row for row in study.published if row.run == name and row.label and not row.fold]
        listed = ", ".join(f"{row.metric} {row.label} {row.value}" for row in beside) or "nothing published"
        cost = f"{len(folds)} fold{'s' * (len(folds) > 1)} x {one.trainer.max_steps:,} steps"
        told = "" if request.budget else forecast(known_pace(folder), len(left), steps)
        print(f"{name}: {cost}, to be set beside {printable(listed)}. {needs}{told}")
        # Data sets that are made on first use need not be there.
        if not one.data.made and not one.data.root.exists():
            missing[name] = f"{needs} It is not at {one.data.root}. {how_to_get(one.data)}"
        else:
            present[name] = folds
    if not present:
        raise UserError(f"study={study.name}: {' '.join(dict.fromkeys(missing.values()))}")
    for name, text in missing.items():
        print(f"Note: {name} is left out. {text}", file=sys.stderr)
    print(flush=True)
    return present


def required_data(one: Experiment) -> str:
    """Which data set a run needs, and its licence."""
    data = one.data
    return f"It needs the data set {data.name or data.root.name} (licence: {data.licence or 'see data/README.md'})."


def how_to_get(data: DataSource) -> str:
    """How to get a data set."""
    how = f"Download it with `segment fetch data={data.name}`" if data.url else "data/README.md says how to get it"
    return f"{how}; where it lies, data.root=FOLDER says."


def asked_folds(fold: int | str, one: Experiment) -> list[int]:
    """Numbers of the folds that were asked for of a run."""
    if isinstance(fold, int) and not isinstance(fold, bool):
        return [fold]
    if fold != "all":
        raise UserError(f"fold={fold}: must be the number of a fold, or all.")
    return list(range(folds_of(one)))


def train_run(study: Study, name: str, folds: Sequence[int], request: Request, shares: int) -> None:
    """Train the folds of one run that are not finished, then sum up when all are there.

    Args:
        study: The study.
        name: The run.
        folds: Numbers of the folds that were asked for.
        request: What was asked for.
        shares: Among how many folds of all runs a budget is shared out.
    """
    started, folder = time.time(), study.output / name
    steps = fixed_steps(study, name, folds, request, shares)
    begun = False
    for number, fold in enumerate(folds):
        one = study.experiments.experiment(name, fold, steps)
        if finished(one.output, one.trainer):
            print(f"{name}, fold {fold} is finished: see {one.output / 'report.html'}", flush=True)
            continue
        print(f"{name}, fold {fold}", flush=True)
        tell = teller(name, len(folds) - number, one.trainer.max_steps)
        train(one, [] if begun else [Stopwatch(min(20, one.trainer.max_steps), tell)])
        begun = True
        if not is_complete(one.output):
            raise KeyboardInterrupt  # which Lightning keeps to itself
    whole = study.experiments.experiment(name, "all", steps)
    runs = finished_folds(folder)
    if len(runs) == folds_of(whole) > 1 and all((run.path / "model").is_dir() for run in runs.values()):
        sum_up(whole, list(runs.values()), started)


def teller(name: str, folds: int, steps: int) -> Callable[[float], None]:
    """Says how long the training takes, once the seconds of a step are known."""
    return lambda pace: print(f"{name}:{forecast(pace, folds, steps)}", file=sys.stderr, flush=True)


def fixed_steps(study: Study, name: str, folds: Sequence[int], request: Request, shares: int) -> int | None:
    """How many steps each fold trains: those of the folds that are there, else as ``steps`` or ``budget`` say.

    Returns:
        None where the study itself says it.

    Raises:
        UserError: When ``steps`` is more than the study's or another number than that of the folds that are there, or
            the budget does not suffice.
    """
    wanted, hours, there = request.steps, request.budget, begun_steps(study.output / name)
    if wanted is not None and hours is not None:
        raise UserError("budget and steps: each decides how long a fold is trained. Give one of them.")
    if hours is not None and hours <= 0:
        raise UserError(f"budget={hours}: must be a number of hours.")
    one = study.experiments.experiment(name, folds[0])
    full = one.trainer.max_steps
    if wanted is not None and not 0 < wanted <= full:
        raise UserError(f"steps={wanted}: must be a number from 1 to the {full} steps of {study.name}'s {name}.")
    if there is not None:
        if wanted not in (None, there):
            what = f"{study.output / name} has folds of {there} steps"
            raise UserError(f"steps={wanted}: {what}. Give another output=, or no steps=.")
        if there != full:
            print(f"{name}: goes on with {there:,} of {full:,} steps, as the folds that are there.", flush=True)
        steps = there
    elif hours is None:
        steps = wanted or full
    else:
        pace = measure(study.experiments.experiment(name, folds[0], trial=trial_steps(one)))
        steps = steps_within(hours * 3600 / shares, one, pace, f"budget={hours}")
        print(
            f"{name}: budget={hours} hours: {steps:,} of {full:,} steps in each fold, at {pace.step:.3g} s a step "
            f"and {pace.scan:.3g} s a validated scan here; on another machine, steps={steps} is the same.",
            flush=True,
        )
    return None if steps == full else steps


def begun_steps(folder: Path) -> int | None:
    """How many steps the folds that are there were begun with; None where there is none."""
    for path in sorted(folder.glob("fold[0-9]*/config.yaml")):
        trainer = read_mapping(path).get("trainer")
        steps = trainer.get("max_steps") if isinstance(trainer, dict) else None
        if isinstance(steps, int) and steps > 0:
            return steps
    return None
