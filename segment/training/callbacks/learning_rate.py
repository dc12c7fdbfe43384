"""The learning rate as one curve."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


class LearningRate(pl.Callback):
    """Logs the learning rate as ``lr``; with several groups of parameters, the largest of their rates."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Log the rate of the coming step, as often as the loss is logged."""
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups if "lr" in group]
        for logger in trainer.loggers if rates else ():
            logger.log_metrics({"lr": max(map(float, rates))}, step=trainer.global_step)
