"""``segment pretrain``: learn a network's weights from images without masks."""

from __future__ import annotations

from omegaconf import DictConfig

from segment.config.build import make
from segment.config.experiment import check_output, checked, read_experiment
from segment.errors import UserError
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Pretrain, and write what ``segment train weights=RUN`` starts from."""
    if config.fold == "all":
        raise UserError("fold=all: a pretraining has one fold. Give its number, or scans=all for all scans.")
    if config.mean_teacher.weight:
        raise UserError("mean_teacher.weight: is for trainings that have masks. Leave it out.")
    if config.labelled is not None:
        raise UserError(f"labelled={config.labelled}: a pretraining uses no masks. Leave it out, or train with it.")
    if config.compile:
        raise UserError("compile=true: is for trainings that have masks. Leave it out.")
    if str(config.trainer.devices) != "1":
        raise UserError(f"trainer.devices={config.trainer.devices}: a pretraining uses one device. Give 1.")
    check_output(checked(config, command))
    experiment = read_experiment(config, command)
    experiment.command.take_folder(experiment.output)
    from segment.workflow.pretrain import pretrain

    pretrain(experiment, make(config, "method"), config.scans == "all", config.probe)
