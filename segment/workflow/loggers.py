"""Sets up the loggers of a run, passes them the configuration and the final scores, and closes them."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyLogger

from segment.errors import UserError
from segment.report.tensorboard import final_scores
from segment.runs.config import flatten
from segment.text import one_line
from segment.workflow.experiment import Parts


@contextlib.contextmanager
def logged(trainer: pl.Trainer, parts: Parts, folder: Path) -> Iterator[list[Logger]]:
    """Give the trainer its loggers, log the resolved configuration, and close the loggers when the block ends.

    They are made here rather than with the trainer because some of them write files on construction.

    Args:
        trainer: The trainer.
        parts: Provides the loggers and the configuration.
        folder: The run folder.

    Yields:
        The loggers.

    Raises:
        UserError: When a logger cannot start, for example because its server is unreachable.
    """
    row = {re.sub(r"[^\w. /:-]", "_", key): value for key, value in flatten(parts.settings).items()}
    failed = True
    cache = os.environ.get("WANDB_CACHE_DIR")
    if cache is None:  # Weights & Biases would otherwise write its own log to the user's home folder
        os.environ["WANDB_CACHE_DIR"] = str((folder / "wandb" / "cache").absolute())
    try:
        loggers = [_start(name, make, row) for name, make in parts.loggers.items()]
        trainer.loggers = loggers or [DummyLogger()]  # some callbacks refuse to work without one
        yield trainer.loggers
        failed = False
    finally:
        if wandb := sys.modules.get("wandb"):  # else the next run of this process would continue this one
            wandb.finish(int(failed))
            wandb.teardown()
        if cache is None:
            del os.environ["WANDB_CACHE_DIR"]


def _start(name: str, make: Callable[[], Logger], row: Mapping[str, Any]) -> Logger:
    """Make one logger and log the configuration, which TensorBoard gets later, with the final scores."""
    try:
        logger = make()
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(row))
    except UserError:
        raise
    except Exception as error:  # a logging service may raise anything
        raise UserError(f"logger={name}: cannot start ({one_line(error)}).") from error
    return logger


def log_final(loggers: list[Logger], summary: Mapping[str, Any], step: int) -> None:
    """Log the final scores with every logger but TensorBoard's; see `segment.report.tensorboard.write_board` for that.

    Args:
        loggers: The loggers that `logged` yields.
        summary: Content of ``summary.json``.
        step: The last training step.
    """
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_metrics(final_scores(summary), step=step)
            logger.save()
