"""A requested study: its runs, its tables, and the configuration of every fold of a run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from segment.command_line import override
from segment.config.choices import run_names, study_folders, study_names
from segment.config.study import StudyExperiments
from segment.data.splits import count_folds
from segment.errors import UserError, did_you_mean
from segment.studies.figures import Published, read_published
from segment.text import printable
from segment.workflow.experiment import Command, Experiment

# Options of `segment reproduce` itself, not passed on to training.
OWN_OPTIONS = ("study", "run", "fold", "budget", "steps", "output", "name", "write", "page", "format")


@dataclass(frozen=True)
class Study:
    """A requested study.

    Attributes:
        name: Its name.
        folder: Folder of its tables.
        published: All its published figures.
        runs: All its runs.
        requested: The requested runs.
        output: Folder of its run folders.
        experiments: Makes the experiments of its runs, with the training overrides of the command line.
    """

    name: str
    folder: Path
    published: list[Published]
    runs: list[str]
    requested: list[str]
    output: Path
    experiments: StudyExperiments


def find(name: str, run: str, output: Path, command: Command) -> Study:
    """Find the requested study.

    Raises:
        UserError: When there is no study of this name, or it has no such run.
    """
    known = study_names()
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"study={name}: there is no such study.{hint} 'segment list studies' lists all studies.")
    runs = run_names(name)
    if not runs:
        raise UserError(f"study={name}: has no runs yet, only published figures.")
    if run != "all" and run not in runs:
        raise UserError(f"run={run}: {name} has no such run.{did_you_mean(run, runs)} Choices: {', '.join(runs)}.")
    folders = study_folders(name)
    folder = next((folder for folder in folders if (folder / "published.csv").is_file()), folders[0])
    overrides = [override(text) for text in command.overrides if text.lstrip("+~").split("=")[0] not in OWN_OPTIONS]
    runs_folder = output / name
    return Study(
        name=name,
        folder=folder,
        published=read_published(folder),
        runs=runs,
        requested=runs if run == "all" else [run],
        output=runs_folder,
        experiments=StudyExperiments(name, overrides, runs_folder),
    )


def citation(study: Study) -> str:
    """The first paragraph of the study's README, or else the sources of its figures."""
    with contextlib.suppress(OSError, UnicodeDecodeError), (study.folder / "README.md").open(encoding="utf-8") as file:
        for paragraph in file.read(20_000).split("\n\n"):
            text = " ".join(line for line in paragraph.splitlines() if not line.startswith("#")).strip()
            if text:
                return printable(text)
    return printable("; ".join(dict.fromkeys(row.source for row in study.published))) or "no source given"


def folds_of(experiment: Experiment) -> int:
    """Number of folds of a run."""
    splits = experiment.data.splits
    return experiment.folds if splits is None else count_folds(splits)
