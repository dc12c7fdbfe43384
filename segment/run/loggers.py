"""The loggers that a run's configuration names: what they need, what they are told, and when they are closed."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from segment.errors import UserError
from segment.report.board import final_scores, flatten
from segment.run.configure import make

# Each of these packages comes with the extra of its name.
PACKAGES = {"pytorch_lightning.loggers.WandbLogger": "wandb", "pytorch_lightning.loggers.MLFlowLogger": "mlflow"}


def check_loggers(config: DictConfig) -> None:
    """See that the packages of the loggers are there, before any data is read.

    Raises:
        UserError: When one is missing, naming the extra that brings it.
    """
    for name, node in config.logger.items():
        package = PACKAGES.get(node.get("_target_")) if node else None
        if package and importlib.util.find_spec(package) is None:
            raise UserError(
                f"logger={name}: the package {package} is not installed. The extra {package} brings it: "
                f"pip install -c constraints.txt '.[{package}]'"
            )


@contextlib.contextmanager
def logged(trainer: pl.Trainer, config: DictConfig) -> Iterator[list[Logger]]:
    """Give the trainer its loggers, tell them the resolved configuration, and close them when the block ends.

    They are made here rather than with the trainer, because some of them write files as soon as they are made.

    Args:
        trainer: The trainer.
        config: With ``logger``.

    Yields:
        The loggers.

    Raises:
        UserError: When one of them cannot begin, such as one whose server is not reached.
    """
    loggers: dict[str, Logger] = {}
    row = {re.sub(r"[^\w. /:-]", "_", key): value for key, value in flatten(_plain(config)).items()}
    try:
        for name, node in config.logger.items():
            if node:
                try:
                    loggers[name] = make(config, f"logger.{name}")
                    _tell(loggers[name], row)
                except UserError:
                    raise
                except Exception as error:  # what a service may raise is its own
                    raise UserError(f"logger={name}: cannot begin ({' '.join(str(error).split())}).") from error
        trainer.loggers = list(loggers.values())
        yield trainer.loggers
    except BaseException:
        _close(loggers, failed=True)
        raise
    _close(loggers, failed=False)


def _plain(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _tell(logger: Logger, row: Mapping[str, Any]) -> None:
    """The configuration, flat; TensorBoard gets it with the final scores, when there are any (segment.report.board)."""
    if not isinstance(logger, TensorBoardLogger):
        logger.log_hyperparams(dict(row))


def log_final(loggers: list[Logger], summary: Mapping[str, Any], step: int) -> None:
    """Tell every logger the final scores; TensorBoard has them from `segment.report.board.write_board`.

    Args:
        loggers: What `logged` gave.
        summary: Content of ``summary.json``.
        step: The last training step.
    """
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_metrics(final_scores(summary), step=step)
            logger.save()


def _close(loggers: Mapping[str, Logger], failed: bool) -> None:
    """End the run of Weights & Biases, which the next run of this process would go on with else."""
    if any(isinstance(logger, WandbLogger) for logger in loggers.values()):
        import wandb

        wandb.finish(exit_code=int(failed))
