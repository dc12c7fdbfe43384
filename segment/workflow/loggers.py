"""The loggers that a run's configuration names: what they need, what they are told, and when they are closed."""

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

from segment.errors import UserError
from segment.report.tensorboard import final_scores
from segment.runs.config import flatten
from segment.workflow.experiment import Parts


@contextlib.contextmanager
def logged(trainer: pl.Trainer, parts: Parts, folder: Path) -> Iterator[list[Logger]]:
    """Give the trainer its loggers, tell them the resolved configuration, and close them when the block ends.

    They are made here rather than with the trainer, because some of them write files as soon as they are made.

    Args:
        trainer: The trainer.
        parts: With the loggers and the configuration.
        folder: The run folder.

    Yields:
        The loggers.

    Raises:
        UserError: When one of them cannot begin, such as one whose server is not reached.
    """
    row = {re.sub(r"[^\w. /:-]", "_", key): value for key, value in flatten(parts.settings).items()}
    failed = True
    cache = os.environ.get("WANDB_CACHE_DIR")
    if cache is None:  # Weights & Biases would write its own log into the user's home
        os.environ["WANDB_CACHE_DIR"] = str((folder / "wandb" / "cache").absolute())
    try:
        trainer.loggers = [_begin(name, make, row) for name, make in parts.loggers.items()]
        yield trainer.loggers
        failed = False
    finally:
        if wandb := sys.modules.get("wandb"):  # else the next run of this process would go on with this one's run
            wandb.finish(int(failed))
            wandb.teardown()
        if cache is None:
            del os.environ["WANDB_CACHE_DIR"]


def _begin(name: str, make: Callable[[], Logger], row: Mapping[str, Any]) -> Logger:
    """Make one logger and tell it the configuration, which TensorBoard gets later, with the final scores."""
    try:
        logger = make()
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(row))
    except UserError:
        raise
    except Exception as error:  # what a service raises is its own
        raise UserError(f"logger={name}: cannot begin ({' '.join(str(error).split())}).") from error
    return logger


def log_final(loggers: list[Logger], summary: Mapping[str, Any], step: int) -> None:
    """Tell every logger the final scores; TensorBoard has them from `segment.report.tensorboard.write_board`.

    Args:
        loggers: What `logged` gave.
        summary: Content of ``summary.json``.
        step: The last training step.
    """
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_metrics(final_scores(summary), step=step)
            logger.save()
