"""Trains one fold, from the data set to the report: check, plan, prepare, fit, score."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from segment import provenance
from segment.augment.counter import generator
from segment.data.case import Case
from segment.data.splits import write_folds
from segment.errors import Stopped, UserError
from segment.files import read_mapping, write_json
from segment.inference.architecture import PRUNED
from segment.inference.model import save_model
from segment.inference.precision import scoring_precision
from segment.inference.windows import SlidingWindows
from segment.locks import alone_in
from segment.metrics.standard import LEAD
from segment.networks.channels import channel_counts
from segment.preprocessing.cascade import network_channels
from segment.preprocessing.plan_file import write_plan
from segment.runs.completion import is_complete
from segment.runs.health import MARK, divergence
from segment.runs.settings import check_folder, write_settings, written_plan
from segment.runs.summary import read_summary
from segment.sampling.datamodule import PatchDataModule
from segment.sampling.watched import watched_scans
from segment.text import one_line
from segment.training.callbacks.cost import Cost
from segment.training.callbacks.energy import Energy
from segment.training.callbacks.scan_metrics import ScanMetrics
from segment.training.callbacks.stopping import StopOnSignal
from segment.training.checkpoints import network_weights
from segment.training.divergence import Diverged
from segment.training.memory import keep_freed_memory
from segment.training.modules.base import TrainingModule
from segment.training.modules.mean_teacher import MeanTeacherModule
from segment.training.modules.segmentation import SegmentationModule
from segment.workflow.calibrate import calibrate, calibrate_finished
from segment.workflow.cascade import include_first_stage
from segment.workflow.experiment import Experiment, Parts, TrainerSettings
from segment.workflow.loggers import log_final, logged
from segment.workflow.peers import Peers
from segment.workflow.postprocess import postprocess
from segment.workflow.prepare import Work, planned, prepare
from segment.workflow.processes import Process, device_count, run_separately, this_process
from segment.workflow.record import describe
from segment.workflow.rescore import rescore
from segment.workflow.score import score, with_fastest_windows
from segment.workflow.start import STARTED, how_pruned, start
from segment.workflow.trial import check_loss, check_network, unused_parameters


def train(experiment: Experiment, callbacks: Sequence[pl.Callback] = ()) -> float | None:
    """Train one fold, score every validation scan and report; resume if the run folder exists.

    Args:
        experiment: The experiment of one fold.
        callbacks: Lightning callbacks, in addition to those of the configuration.

    Returns:
        Foreground Dice, mean over labels of the mean over scans; None if there is none.

    Raises:
        UserError: When the run folder belongs to another run, the data set is not valid, or the training diverges.
    """
    started, folder = time.time(), experiment.output
    silence_libraries()
    check_folder(folder, experiment.settings(written_plan(folder)))
    process = this_process(experiment.trainer)
    if finished(folder, experiment.trainer):
        check_result(folder)
        if process.rank == 0:
            complete(experiment)
        return foreground_dice(folder)
    if run_separately(experiment, process):
        return None if experiment.trainer.fast_dev_run else foreground_dice(folder)
    # The processes of a training on several devices share its folder; a dry run keeps nothing.
    shared = process.rank > 0 or experiment.trainer.fast_dev_run
    with contextlib.nullcontext() if shared else alone_in(folder):
        return train_unfinished(experiment, callbacks, started, process)


def complete(experiment: Experiment) -> None:
    """Add to a finished run what its experiment asks for by now, and say that it is finished."""
    folder = experiment.output
    with alone_in(folder):
        rescore(experiment)
        calibrate_finished(experiment)
        postprocess(experiment)
    early = read_mapping(folder / "provenance.json").get("stopped_early")
    state = f"finished: training stopped early {early}" if early else "finished"
    print(f"{folder} is {state}. See {folder / 'report.html'}. For a new run, give another output= or name=.")


def train_unfinished(
    experiment: Experiment, callbacks: Sequence[pl.Callback], started: float, process: Process
) -> float | None:
    """Train as `train` does, in a run folder that is not finished and that no other training uses.

    Args:
        experiment: The experiment of one fold.
        callbacks: Further callbacks.
        started: When the command began, in seconds since the epoch.
        process: This process.
    """
    folder = experiment.output
    if experiment.trainer.accelerator == "cpu":
        keep_freed_memory()
    work = prepare(experiment)
    parts = experiment.build(planned(work.plan))
    module, trainer, datamodule = assemble(experiment, parts, work, callbacks)
    last = folder / "checkpoints" / "last.ckpt"
    taken = start(experiment, parts, work, module)
    if experiment.trainer.fast_dev_run:
        trainer.fit(module, datamodule)
        print("fast_dev_run: one step and one validation scan succeeded; nothing was kept.")
        return None
    if last.exists():
        network_weights(last)  # to report a damaged checkpoint before the trainer reads it
    if process.rank == 0:  # the others come to the same values and wait for it before the first step
        write_settings(folder, parts.settings)
        write_folds(folder / "splits.json", work.folds)
        write_plan(folder / "plan.yaml", work.decided)
        if taken is not None:
            write_json(folder / STARTED, taken)
    if len(datamodule.val) < len(work.val) and process.rank == 0:
        part = f"{len(datamodule.val)} of {len(work.val)} validation scans"
        print(f"Note: {part} are predicted during training, all at its end (validation=all: always).", file=sys.stderr)
    with distributed_state_restored(process), logged(trainer, parts, folder) as loggers:
        fit(trainer, module, datamodule, folder)
        peers = Peers()
        if not last.exists():
            raise UserError(
                f"trainer.max_time={experiment.trainer.max_time}: ended before the first step. Allow more time."
            )
        finish(experiment, parts, work, module, trainer, started, peers)
        if peers.first:
            postprocess(experiment)
            log_final(loggers, read_summary(folder / "summary.json"), trainer.global_step)
        peers.wait()  # else the first process would be alone in whatever follows
    return foreground_dice(folder)


def finish(
    experiment: Experiment,
    parts: Parts,
    work: Work,
    module: SegmentationModule,
    trainer: pl.Trainer,
    started: float,
    peers: Peers,
) -> None:
    """Save the model of the last checkpoint, and score it together with the other processes of the training."""
    device, record, calibrated = trainer.strategy.root_device, dict[str, Any](), None
    if peers.first:
        module.network.load_state_dict(network_weights(experiment.output / "checkpoints" / "last.ckpt"))
        parts = with_fastest_windows(experiment, parts, work, module, device)
        save(experiment, parts, work, module, trainer.global_step)
        record |= provenance.collect(
            experiment.seed, started, experiment.command.arguments, **describe(experiment, work, trainer)
        )
        parts, calibrated = calibrate(experiment, parts, work, device)
    parts = replace(parts, windows=peers.told(parts.windows))
    watched = len(trainer.datamodule.val)  # type: ignore[attr-defined]
    score(experiment, parts, work, record, cost_of(trainer), device, peers, watched, calibrated)


def cost_of(trainer: pl.Trainer) -> dict[str, Any]:
    """The training's cost, as its callbacks measured it."""
    cost: dict[str, Any] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        cost |= callback.cost() if isinstance(callback, Cost | Energy) else {}
    return cost


def fit(trainer: pl.Trainer, module: TrainingModule, datamodule: PatchDataModule, folder: Path) -> None:
    """Train, from the run folder's last checkpoint if there is one.

    Raises:
        Diverged: When a loss or gradient is not finite; the file `MARK` in the run folder then records it.
        UserError: When Lightning refuses the trainer's arguments or the callbacks, or would go on from another's file.
        Stopped: When the training was interrupted or terminated.
    """
    last = folder / "checkpoints" / "last.ckpt"
    if foreign := sorted(folder.glob("hpc_ckpt_*")):  # under Slurm, Lightning starts from such a file unasked
        raise UserError(f"{foreign[0]}: is not a checkpoint of this run. Remove it.")
    try:
        trainer.fit(module, datamodule, ckpt_path=last if last.exists() else None, weights_only=True)
    except Diverged as error:
        if trainer.is_global_zero:
            write_json(folder / MARK, error.record)
        raise
    except MisconfigurationException as error:
        raise UserError(f"trainer or callbacks: refused by Lightning ({one_line(error)}).") from error
    except SystemExit as end:  # how Lightning ends a training after a KeyboardInterrupt
        raise Stopped(signal.SIGINT) from end
    (folder / MARK).unlink(missing_ok=True)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StopOnSignal) and callback.received is not None:
            print(f"Saved step {trainer.global_step} of {trainer.max_steps} in {last}.", file=sys.stderr)
            raise Stopped(callback.received)


def check_result(folder: Path) -> None:
    """Reject a finished run whose training diverged, which versions before 2026-12 treated as a result.

    Raises:
        UserError: When it diverged; the message names the step.
    """
    if failed := divergence(folder):
        raise UserError(
            f"{folder}: its training {failed.reason} ({failed.cause}), so it has no valid result. Delete it and train "
            "again, with a smaller optimizer.lr or another precision."
        )


def foreground_dice(folder: Path) -> float | None:
    """Foreground Dice of a finished run; None if every structure of every scan was empty."""
    mean: float | None = read_summary(folder / "summary.json")["foreground"][LEAD.name]["mean"]
    return mean


def finished(folder: Path, trainer: TrainerSettings) -> bool:
    """Whether a run folder is complete, and a run that max_time ended was not given another max_time."""
    if not is_complete(folder):
        return False
    record = read_mapping(folder / "provenance.json")
    ended = record.get("steps", 0) >= trainer.max_steps or record.get("max_time") == trainer.max_time
    return ended or bool(record.get("stopped_early"))


def silence_libraries() -> None:
    """Suppress advertisements and known, harmless warnings of libraries."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*",
        ".*have no `validation_step`.*",  # a pretraining
        ".*exists and is not empty.*",
        ".*does not have many workers.*",
        ".*logging interval.*",
        ".*dataloader is not resumable.*",  # it is: the sampler resumes from the number of batches done
        ".*callbacks used to create the checkpoint.*",
        ".*Grad strides do not match bucket view strides.*",  # costs a copy of the smallest gradients
        ".*ReduceLROnPlateau conditioned on metric.*",  # before the first validation
        ".*lr_scheduler.step.* before .optimizer.step.*",  # fp16 skips the first steps, until its scale fits
    ):
        warnings.filterwarnings("ignore", message)


@contextlib.contextmanager
def distributed_state_restored(process: Process) -> Iterator[None]:
    """Undo what a multi-process strategy leaves behind, so that the next run in this process starts afresh.

    Processes that torchrun or srun started stay connected for what follows.
    """
    variables = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
    present = [key for key in variables if key in os.environ]
    try:
        yield
    finally:
        if (
            not process.launched
            and "LOCAL_RANK" not in present
            and torch.distributed.is_available()
            and torch.distributed.is_initialized()
        ):
            torch.distributed.destroy_process_group()
        for key in () if process.launched else variables:
            if key not in present:
                os.environ.pop(key, None)


def assemble(
    experiment: Experiment, parts: Parts, work: Work, further: Sequence[pl.Callback] = ()
) -> tuple[SegmentationModule, pl.Trainer, PatchDataModule]:
    """Build the network, the module, the trainer and the data module."""
    pl.seed_everything(experiment.seed, verbose=False)
    network = parts.network(**shape(work))
    check_network(network, work.plan.patch_size, shape(work)["in_channels"], work.dataset.labels.outputs)
    check_loss(parts.loss, parts.loss_name, work.dataset.labels, len(work.plan.patch_size))
    val = watched(experiment, parts, work)
    kind: Callable[..., SegmentationModule] = SegmentationModule
    if experiment.mean_teacher:
        kind = functools.partial(MeanTeacherModule, experiment.mean_teacher)
    module = kind(
        network=network,
        loss=parts.loss,
        optimizer=parts.optimizer,
        scheduler=parts.scheduler,
        augment=parts.augment,
        plan=work.plan,
        labels=work.dataset.labels,
        windows=parts.validation_windows,
        placements=[work.store.load(case).placement for case in val],
        seed=experiment.seed,
        parameters=parts.parameters,
    )
    if experiment.compile:
        module.compile_network()
    callbacks = [ScanMetrics(work.dataset, val, experiment.metrics), *parts.callbacks, *further, StopOnSignal()]
    # The run's loggers are built later, since they write files; a dry run gets one that keeps nothing.
    trainer = parts.trainer(
        callbacks=callbacks,
        logger=bool(experiment.trainer.fast_dev_run),
        default_root_dir=experiment.output,
        **_strategy(experiment, parts, module.network, work),
    )
    plan, extent = work.plan, None
    if parts.augment is not None:
        extent = functools.partial(parts.augment.extent, patch_size=plan.patch_size, spacing=plan.spacing)
    sampling = {**parts.sampling, "unlabelled": work.unlabelled}
    patches = PatchDataModule(work.store, work.train, val, seed=experiment.seed, extent=extent, **sampling)
    return module, trainer, patches


def watched(experiment: Experiment, parts: Parts, work: Work) -> list[Case]:
    """The validation scans that are predicted during training; all of them are scored at its end."""
    wanted, windows, trainer = experiment.validation, parts.validation_windows, experiment.trainer
    if wanted == "all" or not isinstance(windows, SlidingWindows):
        return work.val
    if wanted == "auto":
        counts = [windows.count(work.store.load(case).image.shape[1:], work.plan.patch_size) for case in work.val]
        batches = experiment.steps_per_epoch * (trainer.check_val_every_n_epoch or 1)
        patches = batches * work.plan.batch_size * (device_count(trainer) or 1)
        chosen = watched_scans(counts, work.plan.patch_size, patches, experiment.seed)
    else:
        order = generator(experiment.seed, 0, "validation").permutation(len(work.val))
        chosen = sorted(order[: int(wanted)].tolist())
    return [work.val[index] for index in chosen]


def _strategy(experiment: Experiment, parts: Parts, network: nn.Module, work: Work) -> dict[str, str]:
    """The trainer's strategy where processes share a network, as UNETR is, of which some parameters get no gradient."""
    if device_count(experiment.trainer) == 1 or parts.settings["trainer"].get("strategy", "auto") not in (
        "auto",
        "ddp",
    ):
        return {}
    unused = unused_parameters(network, work.plan.patch_size, len(work.dataset.channels))
    return {"strategy": "ddp_find_unused_parameters_true"} if unused else {}


def shape(work: Work) -> dict[str, int]:
    """The network arguments that the data determine."""
    return {
        "spatial_dims": len(work.plan.patch_size),
        "in_channels": network_channels(work.plan, work.dataset.labels),
        "out_channels": work.dataset.labels.outputs,
    }


def save(experiment: Experiment, parts: Parts, work: Work, module: SegmentationModule, steps: int) -> None:
    """Write model/; in the second stage of a cascade, it contains the first."""
    folder = experiment.output / "model"
    if work.first_run:
        include_first_stage(work.first_run, folder)
    channels = {PRUNED: channel_counts(module.network)} if experiment.prune else {}
    save_model(
        folder,
        module.network,
        {**parts.architecture, **shape(work), **channels},
        work.plan,
        work.dataset.labels,
        work.dataset.channels,
        parts.inference,
        work.dataset.name,
        scoring_precision(experiment.trainer.precision),
        work.dataset.codes,
        how_pruned(experiment, steps),
    )
