"""Learns weights from images without masks, in a run folder like that of a training."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from safetensors.torch import save_file

from segment import provenance
from segment.data.case import Case
from segment.data.splits import pick_fold, write_folds
from segment.files import read_mapping, write_json, written_whole
from segment.locks import alone_in
from segment.preprocessing.plan_file import write_plan
from segment.runs.settings import check_folder, write_settings, written_plan
from segment.sampling.datamodule import PatchDataModule
from segment.sampling.sampler import Patches
from segment.sampling.views import Views
from segment.training.callbacks.probe import Probe
from segment.training.callbacks.stopping import StopOnSignal
from segment.training.memory import keep_freed_memory
from segment.training.modules.pretraining import COLLAPSED, SPREAD, Pretraining
from segment.training.pretrained import PRETRAINED, WEIGHTS, load_weights
from segment.workflow.experiment import Experiment, Parts
from segment.workflow.loggers import logged
from segment.workflow.prepare import Work, folds_of, planned_store, prepare_cases, require_patch_memory
from segment.workflow.record import describe
from segment.workflow.start import STARTED
from segment.workflow.train import cost_of, fit, planned, silence_libraries
from segment.workflow.trial import check_network

RESULT = "pretraining.json"


def pretrain(experiment: Experiment, method: Callable[..., Pretraining], everything: bool, probed: int) -> None:
    """Pretrain a network; resume if the run folder exists.

    Writes ``model/`` (weights, and how they were made), `RESULT` and, last, ``provenance.json``.

    Args:
        experiment: The experiment; what concerns masks and scores is not used.
        method: Builds the module from the network and what else `Pretraining` takes.
        everything: Whether to use the images of validation and test scans too.
        probed: Patches of training and of validation scans of the probe; 0 for none.

    Raises:
        UserError: When the run folder belongs to another run, the data set is not valid, or the training diverges.
    """
    started, folder = time.time(), experiment.output
    silence_libraries()
    check_folder(folder, experiment.settings(written_plan(folder)))
    if _finished(experiment):
        print(f"{folder} is finished. For a new run, give another output= or name=.")
        return
    with alone_in(folder):
        if experiment.trainer.accelerator == "cpu":
            keep_freed_memory()
        work = _prepare(experiment, everything)
        parts = experiment.build(planned(work.plan))
        module, trainer, datamodule, taken = _assemble(experiment, parts, work, method, probed)
        write_settings(folder, parts.settings)
        if work.folds:
            write_folds(folder / "splits.json", work.folds)
        write_plan(folder / "plan.yaml", work.decided)
        if taken is not None:
            write_json(folder / STARTED, taken)
        with logged(trainer, parts, folder):
            fit(trainer, module, datamodule, folder)
        _save(folder, parts, work, module)
        result = _result(parts, work, trainer)
        write_json(folder / RESULT, result)
        described = describe(experiment, work, trainer) | {"pretraining": result}
        record = provenance.collect(experiment.seed, started, experiment.command.arguments, **described)
        write_json(folder / "provenance.json", record)
    print(_words(folder, result))


def _finished(experiment: Experiment) -> bool:
    """Whether the run is complete, and was not ended by another max_time."""
    file = experiment.output / "provenance.json"
    record = read_mapping(file) if file.is_file() else {}
    trainer = experiment.trainer
    return bool(record) and (record["steps"] >= trainer.max_steps or record["max_time"] == trainer.max_time)


def _prepare(experiment: Experiment, everything: bool) -> Work:
    """Check, plan and prepare the images; without any mask, all of them."""
    store, decided = planned_store(experiment.data, experiment.plan, "all" if everything else "none")
    dataset = store.dataset
    require_patch_memory(dataset, store.plan, on_cpu=experiment.trainer.accelerator == "cpu")
    by_id = {case.id: case for case in dataset.cases}
    folds = folds_of(experiment, dataset) if any(case.label for case in dataset.cases) else []
    fold = pick_fold(folds, experiment.fold) if folds else {"train": [*by_id], "val": []}
    train, val = ([by_id[name] for name in fold[part]] for part in ("train", "val"))
    if everything:
        tests = dataset.test_cases
        print(f"scans=all: images of {len(val)} validation and {len(tests)} test scans are used.", file=sys.stderr)
        train = [*train, *val, *tests]
    prepare_cases(store, list(dict.fromkeys([*train, *val])))
    return Work(dataset, folds, train, val, [], store.hashes, decided, store.plan, store, "all scans")


def _assemble(
    experiment: Experiment, parts: Parts, work: Work, method: Callable[..., Pretraining], probed: int
) -> tuple[Pretraining, pl.Trainer, PatchDataModule, dict[str, Any] | None]:
    """The module, the trainer, the data module, and what the network took from ``weights=``."""
    pl.seed_everything(experiment.seed, verbose=False)
    plan, channels = work.plan, len(work.dataset.channels)
    network = parts.network(spatial_dims=len(plan.patch_size), in_channels=channels, out_channels=channels)
    check_network(network, plan.patch_size, channels, channels)
    taken = None
    if experiment.weights and not (experiment.output / "checkpoints" / "last.ckpt").exists():
        found = load_weights(network, experiment.weights, parts.parameters.take, None, parts.architecture)
        print(f"Starting from {found}.")
        taken = asdict(found)
    module = method(
        network=network,
        optimizer=parts.optimizer,
        scheduler=parts.scheduler,
        augment=parts.augment,
        plan=plan,
        seed=experiment.seed,
        parameters=parts.parameters,
    )
    callbacks = [*parts.callbacks, *_probe(experiment, work, probed), StopOnSignal()]
    trainer = parts.trainer(callbacks=callbacks, logger=bool(experiment.trainer.fast_dev_run))
    extent = None
    if parts.augment is not None:
        extent = functools.partial(parts.augment.extent, patch_size=plan.patch_size, spacing=plan.spacing)
    data = PatchDataModule(work.store, work.train, [], seed=experiment.seed, **parts.sampling)
    weights = parts.sampling.get("weights")
    data.patches = Views(work.store, work.train, experiment.seed, module.views, module.overlap, extent, weights)
    return module, trainer, data, taken


def _probe(experiment: Experiment, work: Work, count: int) -> list[pl.Callback]:
    """The probe, where training and validation scans have masks."""
    known, asked = ([case for case in cases if case.label] for cases in (_without(work.train, work.val), work.val))
    if not (count and known and asked):
        return []
    structures = len(work.dataset.labels.structures)
    share = structures / (structures + 1)  # of patches centred on a structure, so that all classes are equally frequent
    first, second = (Patches(work.store, cases, experiment.seed, share) for cases in (known, asked))
    return [Probe(first, second, count, experiment.trainer.check_val_every_n_epoch)]


def _without(cases: Sequence[Case], others: Sequence[Case]) -> list[Case]:
    names = {case.id for case in others}
    return [case for case in cases if case.id not in names]


def _save(folder: Path, parts: Parts, work: Work, module: Pretraining) -> None:
    """Write model/: the learned weights, and how they were made."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in module.learned().items()}
    with written_whole(folder / "model" / WEIGHTS) as temporary:
        save_file(state, temporary)
    description = {
        "format": 1,
        "dataset": work.dataset.name,
        "method": parts.settings["method"],
        "network": dict(parts.architecture),
        "plan": work.plan.as_dict(),
        "channels": list(work.dataset.channels),
    }
    write_json(folder / "model" / PRETRAINED, description)


def _result(parts: Parts, work: Work, trainer: pl.Trainer) -> dict[str, Any]:
    """The last step's measures, and the probe's first and last accuracy."""
    probe = next((one for one in trainer.callbacks if isinstance(one, Probe)), None)  # type: ignore[attr-defined]
    accuracy = [*probe.accuracy.values()] if probe else []
    measures = {name.removeprefix("train/"): float(value) for name, value in trainer.callback_metrics.items()}
    spread = trainer.callback_metrics.get(SPREAD)
    return {
        "method": parts.settings["method"],
        "scans": len(work.train),
        "steps": trainer.global_step,
        "last_step": measures,
        "collapsed": None if spread is None else bool(spread < COLLAPSED),
        "probe": {"random": accuracy[0], "trained": accuracy[-1], "classes": probe.classes, "patches": probe.count}
        if probe and accuracy
        else None,
        "cost": cost_of(trainer),
    }


def _words(folder: Path, result: dict[str, Any]) -> str:
    """What to print at the end."""
    text = f"{folder}: {result['steps']} steps on {result['scans']} scans, loss {result['last_step']['loss']:.4g}."
    if probe := result["probe"]:
        text += (
            f" Nearest neighbours find the structure at the centre of {probe['patches']} patches of validation scans "
            f"in {probe['trained']:.0%} (random encoder {probe['random']:.0%}, chance {1 / probe['classes']:.0%})."
        )
    if result["collapsed"]:
        text += (
            f" The embeddings collapsed: all patches are alike (spread {result['last_step']['spread']:.2g} of 1). "
            "Try a smaller optimizer.lr, a larger plan.batch_size or method=mae."
        )
    return f"{text}\nFine-tune it: segment train data=... network=... weights={folder}"
