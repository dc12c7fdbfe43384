"""The description of a training as plain values and constructors, independent of the configuration system.

Importing it is cheap, so that a mistake in a configuration is reported before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # importing torch takes seconds
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger
    from torch import nn

    from segment.augment.augmentation import Augmentation
    from segment.data.case import Dataset
    from segment.data.problems import Report
    from segment.inference.windows import SlidingWindows
    from segment.metrics.detection import Score
    from segment.metrics.metric import Metric
    from segment.training.consistency import MeanTeacher
    from segment.training.parameters import ParameterRules


CASCADE = "3d_cascade_fullres"
"""The plan's configuration for the second stage of a cascade, unless another one is named."""


@dataclass(frozen=True)
class Command:
    """The command that is being run.

    Attributes:
        arguments: The arguments after ``segment``, the verb first, as a user types them.
        overrides: Those arguments that override the configuration.
        choices: The choice made in every configuration group.
        nested: Whether this process was started with other arguments, such as those of a sweep or ``fold=all``.
        take_folder: Reserves a run folder for this command; rejects one that another job of its sweep uses.
    """

    arguments: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    nested: bool = False
    take_folder: Callable[[Path], None] = lambda folder: None


NO_COMMAND = Command()  # for calls from Python


@dataclass(frozen=True)
class DataSource:
    """A data set that has been configured but not opened.

    Attributes:
        open: Opens it; problems go to the reporter.
        root: Its root folder or file.
        name: Its name; None: the name of its folder.
        licence: Its licence, from its configuration.
        url: Download URL; None if it cannot be downloaded.
        made: Whether it is generated on first use.
        cache: Folder for cached information about its scans.
        dtype: How intensities of prepared scans are stored there, see `segment.preprocessing.store.Store`.
        splits: A file of folds that replaces the default ones.
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
    dtype: str = "float32"


@dataclass(frozen=True)
class PlanSettings:
    """How scans are prepared and cut into patches; None: nnU-Net's rules decide.

    Attributes:
        file: A plan file, used unchanged.
        preset: The planning rules: nnunet, resenc_m, resenc_l or resenc_xl.
        memory: GB that patch and batch may occupy when nnU-Net's network is trained.
        configuration: 2d, 3d_fullres or 3d_lowres.
        spacing: mm, z y x.
        patch_size: Voxels, z y x.
        batch_size: Patches per batch.
        normalization: One name for all channels or one per channel.
        origin: Scans that the plan and the intensities of CT normalisation come from: ``all`` labelled ones, as nnU-Net
            does, or those of ``train`` alone.
        where: Prefix of the keys in messages.
    """

    file: Path | None = None
    preset: str = "nnunet"
    memory: float | None = None
    configuration: str | None = None
    spacing: Sequence[float] | None = None
    patch_size: Sequence[int] | None = None
    batch_size: int | None = None
    normalization: str | Sequence[str] | None = None
    origin: str = "all"
    where: str = "plan."


@dataclass(frozen=True)
class TrainerSettings:
    """The settings of Lightning's Trainer that other parts of a run depend on; see there.

    Attributes:
        accelerator: cpu, gpu, ...
        devices: Number of devices, or their indices.
        precision: Lightning's name, never ``auto``.
        max_steps: Number of optimiser steps.
        max_time: DD:HH:MM:SS, or None.
        accumulate_grad_batches: Batches per optimiser step.
        check_val_every_n_epoch: Epochs per validation.
        fast_dev_run: Number of steps of a dry run that keeps nothing; 0 for a real run.
        num_nodes: Number of machines.
    """

    accelerator: str
    devices: int | str | Sequence[int]
    precision: str
    max_steps: int
    max_time: str | None
    accumulate_grad_batches: int
    check_val_every_n_epoch: int
    fast_dev_run: int
    num_nodes: int = 1


@dataclass(frozen=True)
class Parts:
    """The components of a training, once the plan is known.

    Attributes:
        network: Builds the network from ``spatial_dims``, ``in_channels`` and ``out_channels``.
        architecture: The network's constructor (``_target_``) and arguments as plain values, to rebuild it.
        trusted: The modules that the architecture names.
        loss: The loss; see `segment.training.modules.segmentation.SegmentationModule`.
        loss_name: Dotted name of the loss's constructor.
        parameters: Which parameters of the network are trained, and how.
        optimizer: Builds the optimiser from the parameters, or from groups of them.
        scheduler: Builds the learning rate schedule from the optimiser; None for a constant learning rate.
        augment: The augmentation; None for none.
        windows: Sliding windows over validation scans for the final scores.
        inference: The windows' arguments.
        validation_windows: Sliding windows for validation during training.
        callbacks: The callbacks of the configuration.
        trainer: Builds the trainer from ``callbacks`` and ``logger``.
        loggers: Constructor of each logger, by name.
        sampling: Arguments of `segment.sampling.datamodule.PatchDataModule`.
        settings: The whole configuration, resolved.
    """

    network: Callable[..., nn.Module]
    architecture: Mapping[str, Any]
    trusted: Sequence[str]
    loss: nn.Module
    loss_name: str
    parameters: ParameterRules
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
    """The training of one fold, or of all folds.

    Attributes:
        name: Name of the run.
        output: The run folder.
        fold: Number of the validation fold, or ``all``.
        folds: Number of folds, unless a splits file defines them.
        nested: Train and score on parts of the fold's training scans; its validation scans are not used.
        overfit: Train and score on this many training scans; 0 for a real run.
        validation: Validation scans that are predicted during training: ``auto``, ``all`` or a number; see
            `segment.sampling.watched.watched_scans`.
        postprocessing: ``auto``: decided on the validation scans; ``none``: not decided.
        calibration: ``auto``: the model is calibrated on the validation scans; ``none``: it is not.
        detection: What scores the lesions of the validation scans as detections, see
            `segment.metrics.detection.detections`; ``none``: they are not scored.
        seed: Everything random is a function of (seed, step, sample).
        weights: A run folder or a file of weights to start from; None for random ones.
        prune: The share of the channels of these weights that is removed before training; None: none.
        compile: Whether torch compiles the network for the training steps.
        cascade: The run folder of the first stage's ``fold=all``, or those of its folds as ``[A,B]``, if this is the
            second stage of a cascade.
        steps_per_epoch: Batches per epoch, that is per checkpoint.
        data: The data set.
        plan: How its scans are prepared and cut into patches.
        trainer: Settings of the trainer.
        metrics: The metrics that scans are scored by.
        command: The command of this run.
        settings: Returns the whole configuration, resolved with the planned values (None: not planned yet).
        build: Builds the components for the planned values.
        one_fold: With ``fold=all``, returns the experiment of one fold.
        labelled: Number of the fold's training scans to train on; None for all.
        mean_teacher: How to learn from the images of the others too; None: not.
    """

    name: str
    output: Path
    fold: int | str
    folds: int
    nested: bool
    overfit: int
    validation: int | str
    postprocessing: str
    calibration: str
    detection: Score | Literal["none"]
    seed: int
    weights: Path | None
    prune: float | None
    compile: bool
    cascade: str | None
    steps_per_epoch: int
    data: DataSource
    plan: PlanSettings
    trainer: TrainerSettings
    metrics: Sequence[Metric]
    command: Command
    settings: Callable[[Mapping[str, Any] | None], dict[str, Any]]
    build: Callable[[Mapping[str, Any]], Parts]
    one_fold: Callable[[int], Experiment]
    labelled: int | None = None
    mean_teacher: MeanTeacher | None = None
