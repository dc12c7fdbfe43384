"""``segment train``: train one fold, or all folds."""

from __future__ import annotations

from omegaconf import DictConfig

from segment.config.experiment import check_output, checked, read_experiment
from segment.workflow.experiment import NO_COMMAND, Command, Experiment


def run(config: DictConfig, command: Command = NO_COMMAND) -> float | None:
    """Train, score and report; return the foreground Dice, or None if there is none."""
    check_output(checked(config, command))  # before torch is imported, which takes seconds
    experiment = read_experiment(config, command)
    from segment.workflow.cross_validate import cross_validate
    from segment.workflow.train import train

    def train_reserved(one: Experiment) -> float | None:
        one.command.take_folder(one.output)
        return train(one)

    if experiment.fold != "all":
        return train_reserved(experiment)
    experiment.command.take_folder(experiment.output)
    return cross_validate(experiment, train_reserved)
