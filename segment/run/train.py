"""``segment train``: config -> cases -> plan -> store -> sampler -> module -> Trainer -> scan scores -> report."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from segment import provenance
from segment.data.case import Case, Dataset
from segment.data.geometry import Grid
from segment.data.images import read_grid
from segment.data.splits import Fold, folds, pick_fold, write_folds
from segment.errors import UserError
from segment.inference.model import find_model, save_model
from segment.preprocessing.plan import Plan, make_plan
from segment.preprocessing.store import Store
from segment.report.files import read_mapping
from segment.run.configure import check_targets, make
from segment.run.folder import claim, settle
from segment.run.score import score
from segment.sampling.datamodule import PatchDataModule
from segment.training.checkpoints import network_weights
from segment.training.memory import keep_freed_memory
from segment.training.module import SegmentationModule
from segment.training.pretrained import load_weights
from segment.training.scan_metrics import ScanMetrics


@dataclass(frozen=True)
class Work:
    """The data side of a run: everything that was read before anything was written."""

    dataset: Dataset
    folds: list[Fold]
    train: list[Case]
    val: list[Case]
    grids: Mapping[str, Grid]
    hashes: Mapping[str, str]
    plan: Plan
    store: Store


def run(config: DictConfig) -> None:
    """Train, score every validation scan and report; on an existing run folder, go on where it stopped."""
    started = time.time()
    hush()
    if config.trainer.accelerator == "cpu":
        keep_freed_memory()
    check_targets(config)
    settle(config)
    folder = Path(config.output)
    claim(folder, config, write=False)
    if finished(folder, config):
        print(f"{folder} is finished: see {folder / 'report.html'}. Another run needs another output= or name=.")
        return
    work = prepare(config)
    debugging = bool(config.trainer.get("fast_dev_run"))
    module, trainer, datamodule = assemble(config, work)
    last = folder / "checkpoints" / "last.ckpt"
    if config.weights and not last.exists():
        print(f"Starting from {load_weights(module.network, Path(config.weights))}.")
    if debugging:
        trainer.fit(module, datamodule)
        print("fast_dev_run: one step and one validation scan went through; nothing was kept.")
        return
    if last.exists():
        network_weights(last)  # so that a damaged one is told before the trainer meets it
    claim(folder, config)
    write_folds(folder / "splits.json", work.folds)
    trainer.fit(module, datamodule, ckpt_path=last if last.exists() else None, weights_only=True)
    if trainer.interrupted or not trainer.is_global_zero:
        return
    if not last.exists():
        raise UserError(
            f"trainer.max_time={config.trainer.max_time}: ended before the first step. Give the run more time."
        )
    module.network.load_state_dict(network_weights(last))
    save(config, work, module, folder)
    record = provenance.collect(config.seed, started, **describe(work, trainer, config))
    score(folder, config, work.dataset, work.val, record)


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


def prepare(config: DictConfig) -> Work:
    """Open the data set, choose the fold, decide the plan and prepare the scans; writes to the cache only."""
    dataset: Dataset = make(config, "data")
    if dataset.notice:
        print(f"Note: {dataset.notice}", file=sys.stderr)
    by_id = {case.id: case for case in dataset.cases}
    all_folds = folds(dataset, config.folds, file=config.splits)
    fold = pick_fold(all_folds, config.fold)
    train, val = ([by_id[i] for i in fold[part]] for part in ("train", "val"))
    if config.overfit:
        train = val = train[: config.overfit]
    cases = list(dict.fromkeys([*train, *val]))
    grids = {case.id: read_grid(case.images[0]) for case in cases}
    dims = {grid.ndim for grid in grids.values()}
    if len(dims) != 1:
        raise UserError(f"data={dataset.name}: some scans are 2D and some 3D. Split them into two data sets.")
    options = OmegaConf.to_container(config.plan, resolve=True)
    plan = make_plan([grids[case.id] for case in train], len(dataset.channels), **options)  # type: ignore[arg-type]
    hashes = provenance.hash_files(
        file for case in cases for file in (*case.images, *([case.label] if case.label else []))
    )
    store = Store(Path(config.cache) / "prepared", dataset, plan, hashes)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("preparing scans", total=len(cases))
        store.prepare(cases, progress=lambda done: bar.update(task, completed=done))
    return Work(dataset, all_folds, train, val, grids, hashes, plan, store)


def assemble(config: DictConfig, work: Work) -> tuple[SegmentationModule, pl.Trainer, PatchDataModule]:
    """Make the network, the module, the trainer and the data module that the configuration names."""
    pl.seed_everything(config.seed, verbose=False)
    network = make(config, "network")(**shape(work))
    divisor = getattr(network, "divisor", None)
    if divisor and all(size <= d for size, d in zip(work.plan.patch_size, divisor, strict=True)):
        raise UserError(
            f"plan.patch_size={list(work.plan.patch_size)}: the network halves it down to a single voxel. "
            "Give a larger patch or a network with fewer stages."
        )
    module = SegmentationModule(
        network=network,
        loss=make(config, "loss"),
        optimizer=make(config, "optimizer"),
        scheduler=make(config, "scheduler"),
        augment=make(config, "augment"),
        plan=work.plan,
        windows=make(config, "inference", mirror=[]),
        placements=[work.store.load(case).placement for case in work.val],
        seed=config.seed,
    )
    metrics = ScanMetrics(work.dataset, work.val)
    callbacks = [metrics, *(make(config, f"callbacks.{key}") for key, node in config.callbacks.items() if node)]
    loggers = [make(config, f"logger.{key}") for key, node in config.logger.items() if node]
    trainer: pl.Trainer = make(config, "trainer", callbacks=callbacks, logger=loggers)
    return module, trainer, PatchDataModule(work.store, work.train, work.val, seed=config.seed, **config.sampler)


def shape(work: Work) -> dict[str, int]:
    """What the data decide about a network."""
    return {
        "spatial_dims": len(work.plan.spacing),
        "in_channels": len(work.dataset.channels),
        "out_channels": len(work.dataset.labels),
    }


def save(config: DictConfig, work: Work, module: SegmentationModule, folder: Path) -> None:
    """Write model/."""
    architecture: dict[str, Any] = OmegaConf.to_container(config.network, resolve=True)  # type: ignore[assignment]
    architecture.pop("_partial_", None)
    inference: dict[str, Any] = OmegaConf.to_container(config.inference, resolve=True)  # type: ignore[assignment]
    save_model(
        folder / "model",
        module.network,
        architecture | shape(work),
        work.plan,
        work.dataset.labels,
        work.dataset.channels,
        inference,
        work.dataset.name,
    )


def describe(work: Work, trainer: pl.Trainer, config: DictConfig) -> dict[str, Any]:
    """Entries of provenance.json that this run alone knows."""
    return {
        "dataset": {"name": work.dataset.name, "root": str(work.dataset.root), "licence": work.dataset.licence},
        "notice": work.dataset.notice,
        "labels": dict(work.dataset.labels),
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
    return provenance.hash_files([file])


def _case(case: Case, hashes: Mapping[str, str]) -> dict[str, Any]:
    files: Sequence[Path] = [*case.images, *([case.label] if case.label else [])]
    return {
        "images": [str(file) for file in case.images],
        "label": str(case.label) if case.label else None,
        "sha256": {str(file): hashes[str(file)] for file in files},
    }
