"""``segment train``: config -> cases -> check -> plan -> store -> sampler -> module -> Trainer -> scores -> report."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator
from torch import nn

from segment import provenance
from segment.config.build import check_targets, make
from segment.config.metrics import metrics_of
from segment.config.sweep import reserve
from segment.data.case import Case
from segment.data.labels import Labels
from segment.data.splits import write_folds
from segment.errors import UserError
from segment.files import hash_files, read_mapping, write_json
from segment.inference.model import find_model, save_model
from segment.preprocessing.plan import Plan
from segment.preprocessing.plan_file import write_plan
from segment.runs.health import MARK, divergence
from segment.runs.summary import read_summary
from segment.sampling.datamodule import PatchDataModule
from segment.text import printable
from segment.training.callbacks.cost import Cost
from segment.training.callbacks.energy import Energy
from segment.training.callbacks.scan_metrics import ScanMetrics
from segment.training.checkpoints import network_weights
from segment.training.divergence import Diverged
from segment.training.memory import keep_freed_memory
from segment.training.modules.segmentation import SegmentationModule
from segment.training.pretrained import load_weights
from segment.workflow.cross_validate import every_fold
from segment.workflow.folder import claim, composed, settle
from segment.workflow.loggers import check_loggers, log_final, logged
from segment.workflow.prepare import Work, prepare
from segment.workflow.score import score, scoring_precision


def run(config: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> float | None:
    """Train, score every validation scan and report; on an existing run folder, go on where it stopped.

    Args:
        config: The run's configuration.
        callbacks: Told of the training of one fold beside those of the configuration.

    Returns:
        Foreground Dice, mean over labels of the mean over scans; None where there is none.
    """
    hush()
    if config.trainer.accelerator == "cpu":
        keep_freed_memory()
    check_targets(config)
    metrics_of(config)  # a mistake in one is told before the data are read
    check_accelerator(config.trainer.accelerator)
    check_accumulation(config)
    check_loggers(config)
    return every_fold(config, train) if config.fold == "all" else train(config, callbacks)


def train(config: DictConfig, callbacks: Sequence[pl.Callback] = ()) -> float | None:
    """Train and score one fold; see `run`."""
    started = time.time()
    settle(config)
    folder = Path(config.output)
    claim(folder, config, write=False)
    reserve(folder)
    if finished(folder, config):
        check_result(folder)
        print(f"{folder} is finished: see {folder / 'report.html'}. Another run needs another output= or name=.")
        if unscored := [metric.name for metric in metrics_of(config) if metric.name not in scored(folder)]:
            print(f"Note: it was scored without {', '.join(unscored)}.")
        return foreground_dice(folder)
    make(config, "callbacks.energy")  # a package that is missing is told before the data are read
    work = prepare(config)
    with open_dict(config):
        config.planned = planned(work.plan)
    debugging = bool(config.trainer.get("fast_dev_run"))
    module, trainer, datamodule = assemble(config, work, callbacks)
    last = folder / "checkpoints" / "last.ckpt"
    if config.weights and not last.exists():
        print(f"Starting from {load_weights(module.network, Path(config.weights))}.")
    if debugging:
        trainer.fit(module, datamodule)
        print("fast_dev_run: one step and one validation scan went through; nothing was kept.")
        return None
    if last.exists():
        network_weights(last)  # so that a damaged one is told before the trainer meets it
    claim(folder, config)
    write_folds(folder / "splits.json", work.folds)
    write_plan(folder / "plan.yaml", work.decided)
    with own_processes(), logged(trainer, config) as loggers:
        fit(trainer, module, datamodule, folder)
        if trainer.interrupted or not trainer.is_global_zero:
            return None
        if not last.exists():
            raise UserError(
                f"trainer.max_time={config.trainer.max_time}: ended before the first step. Give the run more time."
            )
        module.network.load_state_dict(network_weights(last))
        save(config, work, module, folder)
        record = provenance.collect(config.seed, started, **describe(work, trainer, config))
        cost: dict[str, Any] = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            cost |= callback.cost() if isinstance(callback, Cost | Energy) else {}
        score(folder, config, work, record, cost)
        log_final(loggers, read_summary(folder / "summary.json"), trainer.global_step)
    return foreground_dice(folder)


def fit(trainer: pl.Trainer, module: SegmentationModule, datamodule: PatchDataModule, folder: Path) -> None:
    """Train, from the last checkpoint of the run folder where there is one.

    Raises:
        Diverged: When a loss or gradient is not finite; the run folder then says so in `MARK`.
    """
    last = folder / "checkpoints" / "last.ckpt"
    try:
        trainer.fit(module, datamodule, ckpt_path=last if last.exists() else None, weights_only=True)
    except Diverged as error:
        if trainer.is_global_zero:
            write_json(folder / MARK, error.record)
        raise
    (folder / MARK).unlink(missing_ok=True)


def check_result(folder: Path) -> None:
    """Refuse a finished run whose training diverged, as versions before 2026-12 took for a result.

    Raises:
        UserError: Naming the step.
    """
    if failed := divergence(folder):
        raise UserError(
            f"{folder}: its training {failed.reason} ({failed.cause}), so it is no result. Delete it to train anew, "
            "with a smaller optimizer.lr or another precision."
        )


def check_accelerator(accelerator: str) -> None:
    """Refuse a GPU that is not here, before any data is read.

    Raises:
        UserError: Saying how to train without one.
    """
    if accelerator in ("gpu", "cuda", "mps") and not (CUDAAccelerator.is_available() or MPSAccelerator.is_available()):
        raise UserError(
            f"trainer.accelerator={accelerator}: torch {torch.__version__} finds no GPU here. Train with trainer=cpu, "
            "or install a torch that fits the GPU's driver."
        )


def check_accumulation(config: DictConfig) -> None:
    """Refuse epochs that end within a step: the trainer would take that step with fewer batches.

    Raises:
        UserError: Naming the nearest number of batches that does.
    """
    steps, batches = config.sampler.steps_per_epoch, config.trainer.accumulate_grad_batches
    if isinstance(batches, int) and batches > 0 and steps % batches:
        raise UserError(
            f"sampler.steps_per_epoch={steps}: its last step would have fewer than the {batches} batches of "
            f"trainer.accumulate_grad_batches. Give a multiple of it, such as {-(-steps // batches) * batches}."
        )


def foreground_dice(folder: Path) -> float | None:
    """The one number of a finished run; None where every structure of every scan was empty."""
    mean: float | None = read_summary(folder / "summary.json")["foreground"]["dice"]["mean"]
    return mean


def scored(folder: Path) -> Collection[str]:
    """Names of the metrics that a finished run was scored by."""
    return read_summary(folder / "summary.json")["foreground"].keys()


def finished(folder: Path, config: DictConfig) -> bool:
    """Whether a run folder is complete, and no further time was given to a run that time had ended."""
    if not (folder / "report.html").exists():
        return False
    record = read_mapping(folder / "provenance.json")
    return record.get("steps", 0) >= config.trainer.max_steps or record.get("max_time") == config.trainer.max_time


def hush() -> None:
    """Keep advertisements and the known, harmless warnings of libraries out of what a user reads."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*",
        ".*exists and is not empty.*",
        ".*does not have many workers.*",
        ".*logging interval.*",
        ".*dataloader is not resumable.*",  # it is: the sampler goes on from the number of batches done
        ".*callbacks used to create the checkpoint.*",
    ):
        warnings.filterwarnings("ignore", message)


@contextlib.contextmanager
def own_processes() -> Iterator[None]:
    """Take away what a strategy of several processes leaves behind, so that the next run here starts processes anew."""
    left = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
    given = [key for key in left if key in os.environ]
    try:
        yield
    finally:
        if "LOCAL_RANK" not in given and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for key in left:
            if key not in given:
                os.environ.pop(key, None)


def assemble(
    config: DictConfig, work: Work, further: Sequence[pl.Callback] = ()
) -> tuple[SegmentationModule, pl.Trainer, PatchDataModule]:
    """Make the network, the module, the trainer and the data module that the configuration names."""
    pl.seed_everything(config.seed, verbose=False)
    network = make(config, "network")(**shape(work))
    divisor = getattr(network, "divisor", None)
    if divisor and all(size <= d for size, d in zip(work.plan.patch_size, divisor, strict=True)):
        raise UserError(
            f"plan.patch_size={list(work.plan.patch_size)}: the network halves it down to a single voxel. "
            "Give a larger patch or a network with fewer stages."
        )
    augment = make(config, "augment")
    module = SegmentationModule(
        network=network,
        loss=loss_for(config, work.dataset.labels),
        optimizer=make(config, "optimizer"),
        scheduler=make(config, "scheduler"),
        augment=augment,
        plan=work.plan,
        labels=work.dataset.labels,
        windows=make(config, "inference", mirror=[]),
        placements=[work.store.load(case).placement for case in work.val],
        seed=config.seed,
    )
    metrics = ScanMetrics(work.dataset, work.val, metrics_of(config))
    named = (make(config, f"callbacks.{key}") for key, node in config.callbacks.items() if node)
    callbacks = [metrics, *named, *further]
    # The run's loggers are made later, since they write; a dry run needs one that keeps nothing.
    trainer: pl.Trainer = make(config, "trainer", callbacks=callbacks, logger=bool(config.trainer.get("fast_dev_run")))
    extent = getattr(augment, "extent", None)
    patches = PatchDataModule(
        work.store,
        work.train,
        work.val,
        seed=config.seed,
        extent=extent and functools.partial(extent, patch_size=work.plan.patch_size, spacing=work.plan.spacing),
        **config.sampler,
    )
    return module, trainer, patches


def loss_for(config: DictConfig, labels: Labels) -> nn.Module:
    """The loss that the configuration names.

    Raises:
        UserError: When it tells classes apart and the data set has regions, which overlap, or the other way round.
    """
    loss: nn.Module = make(config, "loss")
    logits = torch.zeros(1, labels.outputs, 8, 8)
    try:
        loss(logits, logits if labels.regions else logits[:, :1])
    except Exception as error:
        name = config.loss.get("_target_")
        if labels.regions:
            raise UserError(
                f"loss: {name} tells classes apart, but the data set has regions ({', '.join(labels.regions)}), which "
                "overlap. Take loss=dice_ce, or one with sigmoids."
            ) from error
        raise UserError(
            f"loss: {name} does not take labels that exclude each other ({printable(error)}). Take loss=dice_ce."
        ) from error
    return loss


def planned(plan: Plan) -> dict[str, Any]:
    """What a network's or a loss's file may take from the plan: ``${planned:features,DEFAULT}`` and so on."""
    # nnU-Net gives the two coarsest resolutions of the decoder no weight.
    heads = max(0, len(plan.features) - 3) if plan.features else None
    return plan.as_dict() | {"deep_supervision": heads}


def shape(work: Work) -> dict[str, int]:
    """What the data decide about a network."""
    return {
        "spatial_dims": len(work.plan.patch_size),
        "in_channels": len(work.dataset.channels),
        "out_channels": work.dataset.labels.outputs,
    }


def save(config: DictConfig, work: Work, module: SegmentationModule, folder: Path) -> None:
    """Write model/."""
    architecture: dict[str, Any] = OmegaConf.to_container(config.network, resolve=True)  # type: ignore[assignment]
    architecture.pop("_partial_", None)
    inference: dict[str, Any] = OmegaConf.to_container(config.inference, resolve=True)  # type: ignore[assignment]
    inference |= {key: value for key, value in vars(make(config, "inference")).items() if key not in inference}
    save_model(
        folder / "model",
        module.network,
        architecture | shape(work),
        work.plan,
        work.dataset.labels,
        work.dataset.channels,
        inference,
        work.dataset.name,
        scoring_precision(config.trainer.precision),
    )


def describe(work: Work, trainer: pl.Trainer, config: DictConfig) -> dict[str, Any]:
    """Entries of provenance.json that this run alone knows."""
    return {
        "dataset": {
            "name": work.dataset.name,
            "root": str(work.dataset.root.absolute()),
            "licence": work.dataset.licence,
        },
        **composed(),
        "notice": work.dataset.notice,
        "labels": work.dataset.labels.declared,
        "region_order": list(work.dataset.labels.region_order) or None,
        "steps": trainer.global_step,
        "max_time": config.trainer.max_time,
        "weights": _weights(config.weights),
        "split": {"train": [case.id for case in work.train], "val": [case.id for case in work.val]},
        "cases": {case.id: _case(case, work.hashes) for case in dict.fromkeys([*work.train, *work.val])},
    }


def _weights(source: str | None) -> dict[str, str]:
    """File that the run started from, and its hash; nothing where it started from chance or the file is gone."""
    if source is None or not Path(source).exists():
        return {}
    file = Path(source) if Path(source).is_file() else find_model(Path(source)) / "weights.safetensors"
    return hash_files([file])


def _case(case: Case, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Where a scan's files lie, from whichever folder the run is looked at later, and what they hold."""
    files: Sequence[Path] = [*case.images, *([case.label] if case.label else [])]
    return {
        "images": [str(file.absolute()) for file in case.images],
        "label": str(case.label.absolute()) if case.label else None,
        "sha256": {str(file.absolute()): hashes[str(file)] for file in files},
    }
