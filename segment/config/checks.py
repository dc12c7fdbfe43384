"""Checks a training's configuration before torch is imported, so that a mistake is reported within two seconds."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from segment.config.build import check_target, check_targets
from segment.config.data import read_plan_settings, splits_of
from segment.config.metrics import metrics_of
from segment.config.options import TrainOptions, read_options
from segment.errors import UserError, did_you_mean
from segment.export.checks import check_prune
from segment.inference.engines.names import check_compiler
from segment.inference.limits import THRESHOLDS, check_windows
from segment.text import one_line
from segment.workflow.values import check_files, check_run, check_sampling, check_trainer, require_number

WINDOWS = "segment.inference.windows.SlidingWindows"
SAMPLING = "segment.sampling.datamodule.PatchDataModule"
# Targets that need a package which an extra installs: (group, package, extra).
PACKAGES = {
    "pytorch_lightning.loggers.WandbLogger": ("logger", "wandb", "wandb"),
    "pytorch_lightning.loggers.MLFlowLogger": ("logger", "mlflow", "mlflow"),
    "segment.training.callbacks.energy.Energy": ("callbacks", "codecarbon", "energy"),
}
# What a training logs beside the foreground's scores, and the callback that logs it if it is not always logged.
LOGGED = {"train/loss": None, "val/loss": "validation_loss"}
FOREGROUND = "val/foreground_"
_CHECKED = inspect.signature(check_windows).parameters


def check_training(config: DictConfig) -> None:
    """Check everything that needs neither the data nor torch.

    Args:
        config: The configuration of ``segment train``, with its name and output.

    Raises:
        UserError: When a key or a value is wrong, or a package is missing.
    """
    options = read_options(TrainOptions, config)
    check_targets(config)
    check_target("sampler", {"_target_": SAMPLING, **_plain(config.sampler, resolve=False)})
    _check_packages(config)
    check_run(
        options.fold,
        options.folds,
        splits_of(config),
        options.seed,
        options.overfit,
        options.nested,
        options.postprocessing,
        options.calibration,
    )
    if options.validation not in ("auto", "all"):
        require_number("validation", options.validation, 1, whole=True)
    if options.calibration == "none" and config.inference.get("decision") == THRESHOLDS:
        raise UserError("inference.decision=thresholds: needs calibration=auto, which finds them. Add it.")
    if options.prune is not None:
        check_prune(options.prune)
        if options.weights is None:
            raise UserError(f"prune={options.prune:g}: prunes a trained network. Give weights=RUN, the run to prune.")
    if options.compile:
        check_compiler("compile=true", "train with compile=false")
    if config.mean_teacher.weight:
        given = {"prune": options.prune, "cascade": options.cascade, "callbacks.ema": config.callbacks.get("ema")}
        if other := next((key for key, value in given.items() if value is not None), None):
            raise UserError(f"{other}: is not combined with mean_teacher.weight. Remove one of them.")
    trainer = _plain(config.trainer)
    check_trainer(trainer)
    check_sampling(_plain(config.sampler), trainer["accumulate_grad_batches"])
    weights = None if options.weights is None else Path(options.weights)
    check_files(read_plan_settings(config.plan).file, weights, Path(str(config.output)), options.cascade)
    check_inference(_plain(config.inference))
    _check_last_checkpoint(config)
    _check_monitors(config)


def check_inference(given: Mapping[str, Any]) -> None:
    """Check arguments of sliding windows.

    Args:
        given: The arguments, by name; None for the default.

    Raises:
        UserError: When there is no such argument, or its value is out of range.
    """
    if given.get("_target_", WINDOWS) != WINDOWS:
        return
    values = {key: value for key, value in given.items() if value is not None}
    check_target("inference", {"_target_": WINDOWS} | values)
    try:
        check_windows(**{key: value for key, value in values.items() if key in _CHECKED})
    except (TypeError, ValueError) as error:
        raise UserError(f"inference: {one_line(error)}.") from error


def _plain(node: Any, resolve: bool = True) -> dict[str, Any]:
    return OmegaConf.to_container(node, resolve=resolve)  # type: ignore[return-value]


def _nodes(config: DictConfig, group: str) -> Iterator[tuple[str, DictConfig]]:
    """Name and node of every logger or callback that is not null."""
    for name, node in config[group].items():
        if node:
            yield str(name), node


def _check_packages(config: DictConfig) -> None:
    """Reject a logger or callback whose package is not installed."""
    for group in ("logger", "callbacks"):
        for name, node in _nodes(config, group):
            _, package, extra = PACKAGES.get(str(node.get("_target_")), ("", "", ""))
            if package and importlib.util.find_spec(package) is None:
                raise UserError(
                    f"{group}={name}: the package {package} is not installed. Install the extra {extra}: "
                    f"pip install -c constraints.txt '.[{extra}]'"
                )


def _check_last_checkpoint(config: DictConfig) -> None:
    """Reject callbacks without ``last``: the final model is read from its checkpoint."""
    last = config.callbacks.get("last")
    if not last:
        raise UserError("callbacks.last=null: it saves what is trained, so a training needs it. Remove others only.")
    file = Path(str(last.get("dirpath")), str(last.get("filename")))
    expected = Path(config.output, "checkpoints", "last")
    if file != expected:
        raise UserError(
            f"callbacks.last: saves {file}, but the model is read from {expected}. Leave its dirpath and filename "
            "as they are, and add another checkpoint under a name of its own."
        )


def _check_monitors(config: DictConfig) -> None:
    """Reject a score to follow that nothing logs, unless a callback of the user's own may log it."""
    callbacks = dict(_nodes(config, "callbacks"))
    ours = ("segment.", "pytorch_lightning.")
    if not all(str(node.get("_target_")).startswith(ours) for node in callbacks.values()):
        return
    logged = [name for name, source in LOGGED.items() if source is None or source in callbacks]
    logged += [f"{FOREGROUND}{metric.name}" for metric in metrics_of(config)]
    followers = {f"callbacks.{name}": node for name, node in callbacks.items()} | {"scheduler": config.scheduler}
    for key, node in followers.items():
        monitor = node.get("monitor") if node else None
        if monitor is None or monitor in logged:
            continue
        raise UserError(
            f"{key}.monitor={monitor}: nothing logs this.{did_you_mean(str(monitor), logged)} A training logs "
            f"{', '.join(logged)}."
        )
