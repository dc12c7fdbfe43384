"""A study as it was asked for: its runs, its tables, and the configuration of every fold of a run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from segment.command_line import override
from segment.config.choices import run_names, study_folders, study_names
from segment.config.study import StudyExperiments
from segment.data.splits import count_folds
from segment.errors import UserError, did_you_mean
from segment.studies.ledger import Published, read_published
from segment.text import printable
from segment.workflow.experiment import Command, Experiment

# What is said to this verb and not to training.
OWN = ("study", "run", "fold", "budget", "steps", "output", "name", "write", "page", "format")


@dataclass(frozen=True)
class Study:
    """A study as it was asked for.

    Attributes:
        name: Its name.
        folder: Where its tables lie.
        published: All its published figures.
        runs: All its runs.
        asked: Those that were asked for.
        output: Folder of its run folders.
        experiments: Makes the experiments of its runs, with what was said of training on the command line.
    """

    name: str
    folder: Path
    published: list[Published]
    runs: list[str]
    asked: list[str]
    output: Path
    experiments: StudyExperiments


def find(name: str, run: str, output: Path, command: Command) -> Study:
    """The study that was asked for.

    Raises:
        UserError: When there is none of this name, or no such run in it.
    """
    there = study_names()
    if name not in there:
        raise UserError(f"study={name}: there is no such study.{did_you_mean(name, there)} 'segment list studies'.")
    runs = run_names(name)
    if not runs:
        raise UserError(f"study={name}: has no runs yet, only what is published.")
    if run != "all" and run not in runs:
        raise UserError(f"run={run}: {name} has no such run.{did_you_mean(run, runs)} {runs}")
    folders = study_folders(name)
    folder = next((folder for folder in folders if (folder / "published.csv").is_file()), folders[0])
    given = [override(text) for text in command.overrides if text.lstrip("+~").split("=")[0] not in OWN]
    folder_of_runs = output / name
    return Study(
        name=name,
        folder=folder,
        published=read_published(folder),
        runs=runs,
        asked=runs if run == "all" else [run],
        output=folder_of_runs,
        experiments=StudyExperiments(name, given, folder_of_runs),
    )


def citation(study: Study) -> str:
    """The first paragraph of the study's README; else the sources of its figures."""
    with contextlib.suppress(OSError, UnicodeDecodeError), (study.folder / "README.md").open(encoding="utf-8") as file:
        for paragraph in file.read(20_000).split("\n\n"):
            text = " ".join(line for line in paragraph.splitlines() if not line.startswith("#")).strip()
            if text:
                return printable(text)
    return printable("; ".join(dict.fromkeys(row.source for row in study.published))) or "nothing is said of its source"


def folds_of(experiment: Experiment) -> int:
    """How many folds a run has."""
    splits = experiment.data.splits
    return experiment.folds if splits is None else count_folds(splits)
