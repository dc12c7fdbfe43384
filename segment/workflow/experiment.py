"""What one training is made from, as plain values and constructors: where configuration has ended.

Light to import, so that a mistake in a configuration is told before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importing torch takes seconds
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger
    from torch import nn

    from segment.augment.augmentation import Augmentation
    from segment.data.case import Dataset
    from segment.data.problems import Report
    from segment.inference.windows import SlidingWindows
    from segment.metrics.metric import Metric


@dataclass(frozen=True)
class Command:
    """The command that a piece of work belongs to.

    Attributes:
        arguments: What stands behind ``segment``, the verb first, as a user types it.
        overrides: Those of them that override the configuration.
        choices: The name that was chosen of every configuration group.
        nested: Whether this process was started with other arguments, such as a sweep or ``fold=all``.
        take_folder: Keeps a run folder for this command; refuses one that another job of its sweep has.
    """

    arguments: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    nested: bool = False
    take_folder: Callable[[Path], None] = lambda folder: None


NO_COMMAND = Command()  # of what is called from Python


@dataclass(frozen=True)
class DataSource:
    """A data set that was named, not opened yet.

    Attributes:
        open: Opens it; what is not sound goes to the reporter.
        root: Where it lies.
        name: Its name; None where its folder's name is taken.
        licence: As its configuration says it.
        url: Where to download it; None where it cannot be.
        made: Whether it is made on first use.
        cache: Folder of what is kept about its scans.
        splits: A file of folds in place of the default ones.
        check: The command that lists everything that is wrong with it.
    """

    open: Callable[[Report], Dataset]
    root: Path
    name: str | None
    licence: str | None
    url: str | None
    made: bool
    cache: Path
    splits: Path | None
    check: str


@dataclass(frozen=True)
class PlanSettings:
    """How scans are to be prepared and cut; None: nnU-Net's rules decide.

    Attributes:
        file: A plan file, used as it stands.
        preset: Whose rules: nnunet, resenc_m, resenc_l or resenc_xl.
        memory: GB that patch and batch may fill when nnU-Net's network trains.
        configuration: 2d, 3d_fullres or 3d_lowres.
        spacing: mm, z y x.
        patch_size: Voxels, z y x.
        batch_size: Patches in a step.
        normalization: One name for all channels or one for each.
        where: Put before the keys in messages.
    """

    file: Path | None = None
    preset: str = "nnunet"
    memory: float | None = None
    configuration: str | None = None
    spacing: Sequence[float] | None = None
    patch_size: Sequence[int] | None = None
    batch_size: int | None = None
    normalization: str | Sequence[str] | None = None
    where: str = "plan."


@dataclass(frozen=True)
class TrainerSettings:
    """What the rest of a run goes by of Lightning's Trainer; see there.

    Attributes:
        accelerator: cpu, gpu, ...
        devices: How many, or which.
        precision: Lightning's name, never ``auto``.
        max_steps: Optimiser steps.
        max_time: DD:HH:MM:SS, or None.
        accumulate_grad_batches: Batches in an optimiser step.
        check_val_every_n_epoch: Epochs between two validations.
        fast_dev_run: How many steps are tried without keeping anything; 0 for a real run.
    """

    accelerator: str
    devices: int | str | Sequence[int]
    precision: str
    max_steps: int
    max_time: str | None
    accumulate_grad_batches: int
    check_val_every_n_epoch: int
    fast_dev_run: int


@dataclass(frozen=True)
class Parts:
    """What a training is assembled from, once the plan is known.

    Attributes:
        network: Makes the network from ``spatial_dims``, ``in_channels`` and ``out_channels``.
        architecture: What makes it again, as plain values; its constructor is named under ``_target_``.
        trusted: The modules that the architecture names.
        loss: See `segment.training.modules.segmentation.SegmentationModule`, as are the next three.
        loss_name: Its constructor's dotted name.
        optimizer: Makes the optimiser from the parameters.
        scheduler: Makes the schedule from the optimiser; None for a constant rate.
        augment: None for none.
        windows: How validation scans are covered for the final scores.
        inference: The windows' arguments.
        validation_windows: How they are covered while training.
        callbacks: Those that the configuration names.
        trainer: Makes the trainer from ``callbacks`` and ``logger``.
        loggers: Makes each logger, by name.
        sampling: Arguments of `segment.sampling.datamodule.PatchDataModule`.
        settings: The whole configuration, resolved.
    """

    network: Callable[..., nn.Module]
    architecture: Mapping[str, Any]
    trusted: Sequence[str]
    loss: nn.Module
    loss_name: str
    optimizer: Callable[..., Any]
    scheduler: Callable[..., Any] | None
    augment: Augmentation | None
    windows: SlidingWindows
    inference: Mapping[str, Any]
    validation_windows: SlidingWindows
    callbacks: Sequence[pl.Callback]
    trainer: Callable[..., pl.Trainer]
    loggers: Mapping[str, Callable[[], Logger]]
    sampling: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """One training, or all folds of one.

    Attributes:
        name: Of the run.
        output: Its run folder.
        fold: Number of the fold that validates, or ``all``.
        folds: How many there are, where no file says it.
        overfit: Train and score on this many training scans; 0 for a real run.
        seed: Everything random is a function of (seed, step, sample).
        weights: A run folder or a file of weights to start from; None for random ones.
        steps_per_epoch: Batches between two checkpoints.
        data: The data set.
        plan: How its scans are prepared and cut.
        trainer: What the rest goes by of the trainer.
        metrics: What scans are scored by.
        command: What made this run.
        settings: The whole configuration, resolved with what was planned (None: nothing yet).
        build: Makes the parts for what was planned.
        one_fold: With ``fold=all``, the experiment of one fold.
    """

    name: str
    output: Path
    fold: int | str
    folds: int
    overfit: int
    seed: int
    weights: Path | None
    steps_per_epoch: int
    data: DataSource
    plan: PlanSettings
    trainer: TrainerSettings
    metrics: Sequence[Metric]
    command: Command
    settings: Callable[[Mapping[str, Any] | None], dict[str, Any]]
    build: Callable[[Mapping[str, Any]], Parts]
    one_fold: Callable[[int], Experiment]
