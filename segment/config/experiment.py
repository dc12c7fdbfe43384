"""Turns the configuration of ``segment train`` into an `Experiment`: plain values and constructors of components."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from segment.command_line import assign
from segment.config.build import check_target, check_targets, make, walk
from segment.config.data import read_data, read_plan_settings
from segment.config.metrics import metrics_of
from segment.config.run_name import checked_name, run_name
from segment.errors import UserError
from segment.instruction_set import precision
from segment.training.parameters import ParameterRules
from segment.workflow.experiment import Command, Experiment, Parts, TrainerSettings

# Each of these packages is installed by the extra of the same name.
LOGGER_PACKAGES = {"pytorch_lightning.loggers.WandbLogger": "wandb", "pytorch_lightning.loggers.MLFlowLogger": "mlflow"}
SAMPLING = "segment.sampling.datamodule.PatchDataModule"
PLAN = ("file", "preset", "memory", "configuration", "spacing", "patch_size", "batch_size", "normalization", "from")


def read_experiment(config: DictConfig, command: Command) -> Experiment:
    """The experiment that a configuration describes, checked as far as possible without the data.

    Args:
        config: The composed configuration of ``segment train``; not changed.
        command: The command that composed it.

    Raises:
        UserError: When a component cannot be built from its arguments, a package is missing, or two choices conflict.
    """
    check_targets(config)
    check_target("sampler", {"_target_": SAMPLING, **OmegaConf.to_container(config.sampler, resolve=False)})  # type: ignore[dict-item]
    _check_accumulation(config)
    _check_loggers(config)
    make(config, "callbacks.energy")  # to report a missing package before the data are read
    rules = _parameter_rules(config)
    requested, config = config, _completed(config, command)
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
    )
    return Experiment(
        name=config.name,
        output=Path(config.output),
        fold=config.fold,
        folds=config.folds,
        overfit=config.overfit,
        seed=config.seed,
        weights=None if config.weights is None else Path(config.weights),
        steps_per_epoch=config.sampler.steps_per_epoch,
        data=read_data(config, command),
        plan=read_plan_settings(config.plan),
        trainer=settings,
        metrics=metrics_of(config),
        command=command,
        settings=lambda planned: _resolved(_with_plan(config, planned)),
        build=lambda planned: _build(_with_plan(config, planned), rules),
        one_fold=lambda fold: _one_fold(requested, command, fold),
    )


def _completed(config: DictConfig, command: Command) -> DictConfig:
    """A copy with the values that depend on the machine and on other choices: precision, name, output."""
    config = copy.deepcopy(config)
    with open_dict(config):
        if isinstance(config.plan, str):
            config.plan = dict.fromkeys(PLAN) | {"file": config.plan}
        config.name = checked_name(str(config.name)) if config.name else run_name(config, command)
        config.output = str(config.output or Path("runs") / config.name)
        config.trainer.precision = precision(config.trainer.precision, config.trainer.accelerator)
    return config


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
        validation_windows=make(config, "inference", mirror=[]),
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
    one.fold = fold
    own = [f"fold={fold}"]
    for key in ("name", "output"):
        if config[key] and one[key] == config[key]:  # does not contain the fold
            one[key] = f"{config[key]}-fold{fold}"
        own += [assign(key, str(one[key]))] if config[key] else []
    kept = [word for word in command.arguments if not word.startswith(("fold=", "name=", "output="))]
    return read_experiment(one, replace(command, arguments=(*kept, *own), nested=True))


def _check_accumulation(config: DictConfig) -> None:
    """Reject epochs that end within an optimiser step: the trainer would take that step with fewer batches."""
    steps, batches = config.sampler.steps_per_epoch, config.trainer.accumulate_grad_batches
    if isinstance(batches, int) and batches > 0 and steps % batches:
        raise UserError(
            f"sampler.steps_per_epoch={steps}: the last step would have fewer than the {batches} batches of "
            f"trainer.accumulate_grad_batches. Give a multiple of {batches}, such as {-(-steps // batches) * batches}."
        )


def _check_loggers(config: DictConfig) -> None:
    """Reject a logger whose package is not installed."""
    for name, node in config.logger.items():
        package = LOGGER_PACKAGES.get(node.get("_target_")) if node else None
        if package and importlib.util.find_spec(package) is None:
            raise UserError(
                f"logger={name}: the package {package} is not installed. Install the extra {package}: "
                f"pip install -c constraints.txt '.[{package}]'"
            )
