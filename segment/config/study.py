"""The experiments of a study's runs, composed as by ``segment train +experiments/STUDY=RUN``."""

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
# Arguments of torch's schedulers that count steps.
STEP_ARGUMENTS = ("step_size", "milestones", "total_iters", "total_steps", "T_max", "T_0")


class StudyExperiments:
    """Makes the experiments of a study's runs. Composed configurations are cached: each takes half a second.

    Args:
        study: Name of the study.
        overrides: Further overrides of training, as Hydra reads them.
        output: Folder of the study's run folders.
    """

    def __init__(self, study: str, overrides: Sequence[str], output: Path) -> None:
        self.study = study
        self.overrides = tuple(overrides)
        self.output = output
        self._composed: dict[tuple[str, ...], tuple[DictConfig, Command]] = {}

    def experiment(self, run: str, fold: int | str, steps: int | None = None, trial: int = 0) -> Experiment:
        """The experiment of one fold of a run, or of all folds.

        Args:
            run: Name of the run.
            fold: Number of the fold, or ``all``.
            steps: Number of training steps, with the schedule adapted; None for the study's.
            trial: Number of steps of a dry run that keeps nothing; 0 for a real run.
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
        command = Command(("train", *command.overrides, *own), command.overrides, command.choices, nested=True)
        return read_experiment(config, command)

    def as_published(self) -> StudyExperiments:
        """The same study without overrides."""
        return StudyExperiments(self.study, (), self.output)

    def keys_that_follow_steps(self, run: str) -> set[str]:
        """The keys of a run's configuration that interpolate ``trainer.max_steps``."""
        config, _ = self._compose(self._run_overrides(run))
        return {key for key, node in walk(config) if isinstance(node, Node) and node._value() == f"${{{STEPS}}}"}

    def _run_overrides(self, run: str) -> tuple[str, ...]:
        return (f"+experiments/{self.study}={run}", *self.overrides)

    def _compose(self, overrides: tuple[str, ...]) -> tuple[DictConfig, Command]:
        if overrides not in self._composed:
            self._composed[overrides] = compose_further("train", overrides)
        return self._composed[overrides]


def shortened(config: DictConfig, steps: int) -> tuple[str, ...]:
    """Overrides that shorten a training, and its schedule, to fewer steps.

    Args:
        config: The configuration of the full training. Values that its schedule takes from ``trainer.max_steps`` follow
            automatically; explicit step counts are scaled in proportion.
        steps: Number of training steps.
    """
    overrides = [f"{STEPS}={steps}"]
    for key in STEP_ARGUMENTS:
        value = config.scheduler.get(key)
        if value is None or OmegaConf.is_interpolation(config.scheduler, key):
            continue
        counts = [max(1, round(count * steps / config.trainer.max_steps)) for count in _as_list(value)]
        overrides.append(f"scheduler.{key}={counts if OmegaConf.is_list(value) else counts[0]}".replace(" ", ""))
    return tuple(overrides)


def _as_list(value: Any) -> list[int]:
    return list(value) if OmegaConf.is_list(value) else [value]
