"""Runs a published study fold by fold and compares the results with the published figures."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segment.errors import UserError
from segment.files import read_mapping
from segment.runs.completion import is_complete
from segment.runs.settings import differences, written_plan
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
    """What to reproduce.

    Attributes:
        fold: One fold, or ``all``.
        budget: Hours for everything that is requested; None for the study's steps.
        steps: Training steps per fold; None for the study's.
        format: text or json.
        entered: Folder of studies in which to enter the results; None: nowhere.
    """

    fold: int | str
    budget: float | None
    steps: int | None
    format: str
    entered: Path | None


def reproduce(study: Study, request: Request) -> None:
    """Print what the study requires, train unfinished folds, print and write the table."""
    # With JSON, standard output is for programs; the training's output is for people.
    redirection = contextlib.redirect_stdout(sys.stderr) if request.format == "json" else contextlib.nullcontext()
    with redirection:
        present = announce(study, request)
        total_folds = sum(map(len, present.values()))
        for name, folds in present.items():
            train_run(study, name, folds, request, total_folds)
    conclude(study, list(present), request.format, request.entered)


def announce(study: Study, request: Request) -> dict[str, list[int]]:
    """Print what will be reproduced, what it requires, how long it takes, and the published figures.

    Returns:
        The requested folds of every run whose data set is available.

    Raises:
        UserError: When no data set is available, or a finished fold diverged.
    """
    print(f"{study.name}: {citation(study)}\n")
    for name in study.runs:
        valid_folds(study.output / name)  # to report a diverged fold before others are trained
    present, missing = {}, {}
    for name in study.requested:
        folder, one = study.output / name, study.experiments.experiment(name, 0)
        data, folds = required_data(one), requested_folds(request.fold, one)
        steps = recorded_steps(folder) or request.steps or one.trainer.max_steps
        left = [fold for fold in folds if not is_complete(folder / f"fold{fold}")]
        figures = [row for row in study.published if row.run == name and row.label and not row.fold]
        listed = ", ".join(f"{row.metric} {row.label} {row.value}" for row in figures)
        cost = f"{len(folds)} fold{'s' * (len(folds) > 1)} x {one.trainer.max_steps:,} steps"
        time_needed = "" if request.budget else forecast(known_pace(folder), len(left), steps)
        published = f"Published: {printable(listed)}" if listed else "Nothing is published"
        print(f"{name}: {cost}. {published}. {data}{time_needed}")
        # Data sets that are generated on first use need not exist yet.
        if not one.data.made and not one.data.root.exists():
            missing[name] = f"{data} It is not at {one.data.root}. {how_to_get(one.data)}"
        else:
            present[name] = folds
    if not present:
        raise UserError(f"study={study.name}: {' '.join(dict.fromkeys(missing.values()))}")
    for name, text in missing.items():
        print(f"Note: {name} is skipped. {text}", file=sys.stderr)
    print(flush=True)
    return present


def required_data(one: Experiment) -> str:
    """The data set that a run requires, and its licence."""
    data = one.data
    return f"It requires the data set {data.name or data.root.name} (licence: {data.licence or 'see data/README.md'})."


def how_to_get(data: DataSource) -> str:
    """How to get a data set."""
    how = f"Download it with `segment fetch data={data.name}`" if data.url else "data/README.md says how to get it"
    return f"{how}. If you have it, give its folder: data.root=FOLDER."


def requested_folds(fold: int | str, one: Experiment) -> list[int]:
    """Numbers of the requested folds of a run."""
    if isinstance(fold, int) and not isinstance(fold, bool):
        return [fold]
    if fold != "all":
        raise UserError(f"fold={fold}: must be the number of a fold, or all.")
    return list(range(folds_of(one)))


def train_run(study: Study, name: str, folds: Sequence[int], request: Request, total_folds: int) -> None:
    """Train the unfinished folds of one run, then summarise them if all are finished.

    Args:
        study: The study.
        name: The run.
        folds: Numbers of the requested folds.
        request: The request.
        total_folds: Number of folds of all runs, which share the budget.
    """
    started, folder = time.time(), study.output / name
    steps = steps_per_fold(study, name, folds, request, total_folds)
    timed = False
    for number, fold in enumerate(folds):
        one = study.experiments.experiment(name, fold, steps)
        if finished(one.output, one.trainer):
            check_overrides(study, name, fold, one)
            print(f"{name}, fold {fold} is finished: see {one.output / 'report.html'}", flush=True)
            continue
        print(f"{name}, fold {fold}", flush=True)
        report_pace = pace_reporter(name, len(folds) - number, one.trainer.max_steps)
        train(one, [] if timed else [Stopwatch(min(20, one.trainer.max_steps), report_pace)])
        timed = True
        if not is_complete(one.output):
            raise KeyboardInterrupt  # which Lightning swallows
    whole = study.experiments.experiment(name, "all", steps)
    runs = finished_folds(folder)
    if len(runs) == folds_of(whole) > 1 and all((run.path / "model").is_dir() for run in runs.values()):
        sum_up(whole, list(runs.values()), started)


def check_overrides(study: Study, name: str, fold: int, one: Experiment) -> None:
    """Check that a finished fold was trained with the values that the command line gives.

    Raises:
        UserError: When it has another value, which would be ignored.
    """
    if not study.experiments.overrides:
        return
    plan = written_plan(one.output)
    requested = one.settings(plan)
    published = study.experiments.as_published().experiment(name, fold).settings(plan)
    given = {key for key, *_ in differences(published, requested)}
    for key, there, here in differences(read_mapping(one.output / "config.yaml"), requested):
        if key in given:
            raise UserError(
                f"output={one.output}: is finished with {key}={there}, so that {here} would be ignored. Give another "
                "output=, or leave it out."
            )


def pace_reporter(name: str, folds: int, steps: int) -> Callable[[float], None]:
    """A function that prints how long the training takes, given the seconds per step."""
    return lambda pace: print(f"{name}:{forecast(pace, folds, steps)}", file=sys.stderr, flush=True)


def steps_per_fold(study: Study, name: str, folds: Sequence[int], request: Request, total_folds: int) -> int | None:
    """Number of training steps per fold: as for existing folds, else from ``steps`` or ``budget``.

    Returns:
        The number; None if it is the study's own.

    Raises:
        UserError: When ``steps`` exceeds the study's or differs from that of existing folds, or the budget is too
            small.
    """
    requested, hours, existing = request.steps, request.budget, recorded_steps(study.output / name)
    if requested is not None and hours is not None:
        raise UserError("budget and steps: each determines how long a fold is trained. Give only one of them.")
    if hours is not None and hours <= 0:
        raise UserError(f"budget={hours}: must be a positive number of hours.")
    one = study.experiments.experiment(name, folds[0])
    full = one.trainer.max_steps
    if requested is not None and not 0 < requested <= full:
        raise UserError(f"steps={requested}: must be a number from 1 to the {full} steps of the study's {name}.")
    if existing is not None:
        if requested not in (None, existing):
            what = f"{study.output / name} has folds of {existing} steps"
            raise UserError(f"steps={requested}: {what}. Give another output=, or omit steps=.")
        if existing != full:
            print(f"{name}: continues with {existing:,} of {full:,} steps, like the existing folds.", flush=True)
        steps = existing
    elif hours is None:
        steps = requested or full
    else:
        pace = measure(study.experiments.experiment(name, folds[0], trial=trial_steps(one)))
        steps = steps_within(hours * 3600 / total_folds, one, pace, f"budget={hours}")
        print(
            f"{name}: budget={hours} hours: {steps:,} of {full:,} steps per fold, at {pace.step:.3g} s per step and "
            f"{pace.scan:.3g} s per validation scan on this machine; on another one, give steps={steps} instead.",
            flush=True,
        )
    return None if steps == full else steps


def recorded_steps(folder: Path) -> int | None:
    """Number of training steps that existing folds were started with; None if there is no fold."""
    for path in sorted(folder.glob("fold[0-9]*/config.yaml")):
        trainer = read_mapping(path).get("trainer")
        steps = trainer.get("max_steps") if isinstance(trainer, dict) else None
        if isinstance(steps, int) and steps > 0:
            return steps
    return None
