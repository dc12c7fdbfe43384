"""Turns the configuration of ``segment train`` into an `Experiment`: plain values and constructors of components."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from segment.command_line import assign
from segment.config.build import make, walk
from segment.config.checks import check_training
from segment.config.data import read_data, read_plan_settings
from segment.config.metrics import metrics_of
from segment.config.run_name import checked_name, run_name
from segment.errors import UserError
from segment.inference.limits import ARGMAX, THRESHOLDS
from segment.instruction_set import precision
from segment.runs.settings import check_folder, written_plan
from segment.training.consistency import MeanTeacher
from segment.training.parameters import ParameterRules
from segment.workflow.experiment import CASCADE, Command, Experiment, Parts, PlanSettings, TrainerSettings

PLAN = ("file", "preset", "memory", "configuration", "spacing", "patch_size", "batch_size", "normalization", "from")


def read_experiment(config: DictConfig, command: Command) -> Experiment:
    """The experiment that a configuration describes, checked as far as possible without the data.

    Args:
        config: The composed configuration of ``segment train``; not changed.
        command: The command that composed it.

    Raises:
        UserError: When a component cannot be built from its arguments, a package is missing, or two choices conflict.
    """
    requested, config = config, checked(config, command)
    make(config, "callbacks.energy")  # to report an unknown country before the data are read
    rules = _parameter_rules(config)
    teacher = MeanTeacher(**OmegaConf.to_container(config.mean_teacher, resolve=True))  # type: ignore[arg-type]
    rules.check_start(config.weights is not None, config.trainer.max_steps)
    with open_dict(config):
        config.trainer.precision = precision(config.trainer.precision, config.trainer.accelerator)
    trainer = config.trainer
    settings = TrainerSettings(
        accelerator=trainer.accelerator,
        devices=OmegaConf.to_container(trainer.devices) if OmegaConf.is_list(trainer.devices) else trainer.devices,  # type: ignore[arg-type]
        precision=trainer.precision,
        max_steps=trainer.max_steps,
        max_time=trainer.max_time,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        check_val_every_n_epoch=trainer.check_val_every_n_epoch,
        fast_dev_run=int(trainer.get("fast_dev_run") or 0),
        num_nodes=int(trainer.get("num_nodes") or 1),
    )
    return Experiment(
        name=config.name,
        output=Path(config.output),
        fold=config.fold,
        folds=config.folds,
        nested=config.nested,
        overfit=config.overfit,
        validation=config.validation,
        postprocessing=config.postprocessing,
        calibration=config.calibration,
        detection=config.detection,
        seed=config.seed,
        weights=None if config.weights is None else Path(config.weights),
        prune=config.prune,
        compile=config.compile,
        cascade=config.cascade,
        steps_per_epoch=config.sampler.steps_per_epoch,
        data=read_data(config, command),
        plan=_plan_settings(config),
        trainer=settings,
        metrics=metrics_of(config),
        command=command,
        settings=lambda planned: _resolved(_with_plan(config, planned)),
        build=lambda planned: _build(_with_plan(config, planned), rules),
        one_fold=lambda fold: _one_fold(requested, command, fold),
        labelled=config.labelled,
        mean_teacher=teacher if teacher.weight else None,
    )


def checked(config: DictConfig, command: Command) -> DictConfig:
    """A checked copy of the configuration with the values that depend on other choices: name, output, number of steps.

    Nothing slow is imported, so that a mistake is reported at once.

    Args:
        config: The composed configuration of ``segment train``.
        command: The command that composed it.

    Raises:
        UserError: As `segment.config.checks.check_training`.
    """
    config = copy.deepcopy(config)
    with open_dict(config):
        if isinstance(config.plan, str):
            config.plan = dict.fromkeys(PLAN) | {"file": config.plan}
        config.name = checked_name(str(config.name)) if config.name else run_name(config, command)
        config.output = str(config.output or Path("runs") / config.name)
    check_training(config)
    with open_dict(config):
        config.trainer.max_steps = _steps(config)
    return config


def check_output(config: DictConfig) -> None:
    """Check that the run folder is free, or contains this run.

    Args:
        config: The result of `checked`.

    Raises:
        UserError: When it contains something else.
    """
    folder = Path(config.output)
    settings = _resolved(_with_plan(config, written_plan(folder)))
    # Which precision ``auto`` is, torch will tell.
    check_folder(folder, settings, ["trainer.precision"] if config.trainer.precision == "auto" else [])


def _plan_settings(config: DictConfig) -> PlanSettings:
    """The plan's settings; its second stage for a cascade."""
    settings = read_plan_settings(config.plan)
    return replace(settings, configuration=CASCADE) if config.cascade and not settings.configuration else settings


def _steps(config: DictConfig) -> int:
    """Number of optimiser steps, which schedules count too: ``max_steps``, or fewer if ``max_epochs`` ends earlier."""
    steps, epochs = int(config.trainer.max_steps), int(config.trainer.get("max_epochs", -1))
    if epochs == -1:
        return steps
    in_epochs = epochs * config.sampler.steps_per_epoch // config.trainer.accumulate_grad_batches
    return in_epochs if steps == -1 else min(steps, in_epochs)


def _with_plan(config: DictConfig, planned: Mapping[str, Any] | None) -> DictConfig:
    """A copy with the planned values."""
    if "${" in str(planned):
        raise UserError(f"{config.output}: planned contains '${{', which no plan does. Is this a run folder?")
    config = copy.deepcopy(config)
    with open_dict(config):
        config.planned = planned
    return config


def _resolved(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _parameter_rules(config: DictConfig) -> ParameterRules:
    given: Any = OmegaConf.to_container(config.parameters, resolve=True)
    return ParameterRules(**{key: value for key, value in given.items() if value is not None})


def _build(config: DictConfig, rules: ParameterRules) -> Parts:
    """Build every component, except trainer and loggers: these write on construction and are built later."""
    from segment.augment.augmentation import complete  # here, since it imports torch

    settings = _resolved(config)
    windows = make(config, "inference")
    found_later = {"decision": ARGMAX} if config.inference.get("decision") == THRESHOLDS else {}
    # Modules that the user's own configuration names are trusted; those that only a model file names are not.
    trusted = [node["_target_"].rpartition(".")[0] for node in _nodes(settings["network"]) if "_target_" in node]
    return Parts(
        network=make(config, "network"),
        architecture={key: value for key, value in settings["network"].items() if key != "_partial_"},
        trusted=trusted,
        loss=make(config, "loss"),
        loss_name=settings["loss"]["_target_"],
        parameters=rules,
        optimizer=make(config, "optimizer"),
        scheduler=make(config, "scheduler"),
        augment=complete(make(config, "augment")),
        windows=windows,
        inference=vars(windows) | settings["inference"],
        validation_windows=make(config, "inference", mirror=[], **found_later),
        callbacks=[make(config, f"callbacks.{key}") for key, node in config.callbacks.items() if node],
        trainer=lambda **more: make(config, "trainer", **more),
        loggers={str(key): _later(config, f"logger.{key}") for key, node in config.logger.items() if node},
        sampling=settings["sampler"],
        settings=settings,
    )


def _later(config: DictConfig, key: str) -> Any:
    return lambda: make(config, key)


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    yield from ([node] if isinstance(node, dict) else [])
    yield from (child for _, child in walk(node) if isinstance(child, dict))


def _one_fold(config: DictConfig, command: Command, fold: int) -> Experiment:
    """The experiment of one fold of ``fold=all``, as the command that trains this fold alone would describe it."""
    one = copy.deepcopy(config)
    one.fold, one.postprocessing = fold, "none"  # decided on the validation scans of all folds
    own = [f"fold={fold}"]
    for key in ("name", "output"):
        if config[key] and one[key] == config[key]:  # does not contain the fold
            one[key] = f"{config[key]}-fold{fold}"
        own += [assign(key, str(one[key]))] if config[key] else []
    kept = [word for word in command.arguments if not word.startswith(("fold=", "name=", "output=", "postprocessing="))]
    return read_experiment(one, replace(command, arguments=(*kept, *own), nested=True))
