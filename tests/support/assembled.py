"""A training of a composed configuration, assembled but not started."""

from collections.abc import Sequence

import pytorch_lightning as pl

from segment.config.compose import compose_command
from segment.config.experiment import read_experiment
from segment.sampling.datamodule import PatchDataModule
from segment.training.modules.segmentation import SegmentationModule
from segment.workflow import train
from segment.workflow.experiment import Experiment
from segment.workflow.prepare import Work, prepare


def experiment_of(*overrides: str) -> Experiment:
    """The experiment of ``segment train`` with these overrides."""
    return read_experiment(*compose_command("train", overrides))


def assembled(
    overrides: Sequence[str], callbacks: Sequence[pl.Callback] = ()
) -> tuple[Work, SegmentationModule, pl.Trainer, PatchDataModule]:
    """The data side, the module, the trainer and the data module, validation left out."""
    train.silence_libraries()
    experiment = experiment_of(*overrides)
    work = prepare(experiment)
    parts = experiment.build(train.planned(work.plan))
    module, trainer, patches = train.assemble(experiment, parts, work, callbacks)
    trainer.limit_val_batches = 0
    return work, module, trainer, patches
