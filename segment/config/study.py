"""The experiments of a study's runs, composed as ``segment train +experiments/STUDY=RUN`` would."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, Node, OmegaConf

from segment.command_line import assign
from segment.config.build import walk
from segment.config.compose import compose_further
from segment.config.experiment import read_experiment
from segment.config.run_name import cleaned
from segment.workflow.experiment import Command, Experiment

STEPS = "trainer.max_steps"
# What torch's schedules count in steps.
COUNTED = ("step_size", "milestones", "total_iters", "total_steps", "T_max", "T_0")


class StudyExperiments:
    """Makes the experiments of a study's runs; composing a configuration takes half a second and is done once.

    Args:
        study: Name of the study.
        overrides: What else was said of training, as Hydra reads it.
        output: Folder of the study's run folders.
    """

    def __init__(self, study: str, overrides: Sequence[str], output: Path) -> None:
        self.study = study
        self.overrides = tuple(overrides)
        self.output = output
        self._composed: dict[tuple[str, ...], tuple[DictConfig, Command]] = {}

    def experiment(self, run: str, fold: int | str, steps: int | None = None, trial: int = 0) -> Experiment:
        """One fold of a run, or all of them.

        Args:
            run: Name of the run.
            fold: Number of the fold, or ``all``.
            steps: Training steps, with their schedule, in place of the study's.
            trial: How many steps are tried without keeping anything; 0 for a real run.
        """
        overrides = self._run_overrides(run)
        if steps:
            overrides += shortened(self._compose(overrides)[0], steps)
        if trial:
            overrides += (f"++trainer.fast_dev_run={trial}", f"sampler.steps_per_epoch={trial}")
        composed, command = self._compose(overrides)
        config = copy.deepcopy(composed)
        config.fold, config.name = fold, cleaned(f"{self.study}-{run}-fold{fold}")
        config.output = str(self.output / run / f"fold{fold}")
        own = (f"fold={fold}", f"name={config.name}", assign("output", config.output))
        given = Command(("train", *command.overrides, *own), command.overrides, command.choices, nested=True)
        return read_experiment(config, given)

    def as_published(self) -> StudyExperiments:
        """The same study, with nothing overridden."""
        return StudyExperiments(self.study, (), self.output)

    def keys_that_follow_steps(self, run: str) -> set[str]:
        """The keys of a run's configuration whose value is that of ``trainer.max_steps``."""
        config, _ = self._compose(self._run_overrides(run))
        return {key for key, node in walk(config) if isinstance(node, Node) and node._value() == f"${{{STEPS}}}"}

    def _run_overrides(self, run: str) -> tuple[str, ...]:
        return (f"+experiments/{self.study}={run}", *self.overrides)

    def _compose(self, overrides: tuple[str, ...]) -> tuple[DictConfig, Command]:
        if overrides not in self._composed:
            self._composed[overrides] = compose_further("train", overrides)
        return self._composed[overrides]


def shortened(config: DictConfig, steps: int) -> tuple[str, ...]:
    """Overrides that bring a training down to fewer steps, with its schedule.

    Args:
        config: The configuration of the whole training. What its schedule takes from ``trainer.max_steps`` follows by
            itself; counts of steps that it names are brought down alike.
        steps: How many steps to train.
    """
    overrides = [f"{STEPS}={steps}"]
    for key in COUNTED:
        named = config.scheduler.get(key)
        if named is None or OmegaConf.is_interpolation(config.scheduler, key):
            continue
        counts = [max(1, round(count * steps / config.trainer.max_steps)) for count in _listed(named)]
        overrides.append(f"scheduler.{key}={counts if OmegaConf.is_list(named) else counts[0]}".replace(" ", ""))
    return tuple(overrides)


def _listed(named: Any) -> list[int]:
    return list(named) if OmegaConf.is_list(named) else [named]
