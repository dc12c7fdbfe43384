"""A study as it was asked for: its runs, its tables, and the configuration of every fold of a run."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig, open_dict

from segment.config.arguments import assign, typed
from segment.config.choices import options, search_folders
from segment.config.run_name import cleaned
from segment.errors import UserError, did_you_mean
from segment.studies.budget import shortened
from segment.studies.ledger import Published, read_published
from segment.text import printable
from segment.workflow.check import splits_of

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
        overrides: What was said on the command line of training.
        output: Folder of its run folders.
        composed: Configurations by their overrides; composing one takes half a second.
    """

    name: str
    folder: Path
    published: list[Published]
    runs: list[str]
    asked: list[str]
    overrides: list[str]
    output: Path
    composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict)


def find(config: DictConfig) -> Study:
    """The study that was asked for.

    Raises:
        UserError: When there is none of this name, or no such run in it.
    """
    name = str(config.study)
    there = options("experiments", ObjectType.GROUP)
    if name not in there:
        raise UserError(f"study={name}: there is no such study.{did_you_mean(name, there)} 'segment list studies'.")
    runs = options(f"experiments/{name}")
    if not runs:
        raise UserError(f"study={name}: has no runs yet, only what is published.")
    if config.run != "all" and config.run not in runs:
        raise UserError(f"run={config.run}: {name} has no such run.{did_you_mean(str(config.run), runs)} {runs}")
    folders = [folder / name for folder in search_folders("experiments") if (folder / name).is_dir()]
    folder = next((folder for folder in folders if (folder / "published.csv").is_file()), folders[0])
    given = [text for text in HydraConfig.get().overrides.task if text.lstrip("+~").split("=")[0] not in OWN]
    return Study(
        name=name,
        folder=folder,
        published=read_published(folder),
        runs=runs,
        asked=runs if config.run == "all" else [config.run],
        overrides=given,
        output=Path(str(config.output)) / name,
    )


def citation(study: Study) -> str:
    """The first paragraph of the study's README; else the sources of its figures."""
    with contextlib.suppress(OSError, UnicodeDecodeError), (study.folder / "README.md").open(encoding="utf-8") as file:
        for paragraph in file.read(20_000).split("\n\n"):
            text = " ".join(line for line in paragraph.splitlines() if not line.startswith("#")).strip()
            if text:
                return printable(text)
    return printable("; ".join(dict.fromkeys(row.source for row in study.published))) or "nothing is said of its source"


@contextlib.contextmanager
def training(study: Study, name: str, fold: int | str, steps: int | None = None) -> Iterator[DictConfig]:
    """The configuration of ``segment train`` for one fold of a run; within the block the command line is this one too.

    So provenance tells a command that makes this fold again, and a strategy's child processes run just that.
    """
    given, before = sys.argv, HydraConfig.instance().cfg
    overrides = [f"+experiments/{study.name}={name}", *study.overrides]
    composed = compose(study, overrides)
    if steps:
        overrides += shortened(composed, steps)
        composed = compose(study, overrides)
    HydraConfig.instance().set_config(composed)
    one = copy.deepcopy(composed)
    with open_dict(one):
        del one["hydra"]
        one.fold, one.name = fold, cleaned(f"{study.name}-{name}-fold{fold}")
        one.output = str(study.output / name / f"fold{fold}")
    own = [f"fold={fold}", f"name={one.name}", assign("output", one.output)]
    sys.argv = [given[0], "train", *map(typed, overrides), *own]
    try:
        yield one
    finally:
        sys.argv = given
        HydraConfig.instance().cfg = before


def compose(study: Study, overrides: Sequence[str]) -> DictConfig:
    """The configuration of ``segment train`` with these overrides, Hydra's own part included."""
    key = tuple(overrides)
    if key not in study.composed:
        study.composed[key] = hydra.compose("train", list(overrides), return_hydra_config=True)
    return study.composed[key]


def count_folds(one: DictConfig) -> int:
    """How many folds a run with this configuration has."""
    splits = splits_of(one)
    if splits is None:
        return int(one.folds)
    try:
        return len(json.loads(splits.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"splits={one.splits}: cannot be read ({error}).") from None
