"""Ends a training whose validation score no longer improves."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks.early_stopping import EarlyStopping as LightningEarlyStopping
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from segment.training.monitors import monitored


class EarlyStopping(LightningEarlyStopping):
    """Lightning's early stopping, such that a resumed training stops at the same step as an uninterrupted one.

    Args:
        monitor: Logged score, such as ``val/foreground_dice``; see `segment.training.callbacks.scan_metrics`.
        mode: ``max`` if a higher score is better, else ``min``.
        patience: Validations without an improvement after which the training ends.
        min_delta: Least improvement that counts.
    """

    def __init__(
        self, monitor: str = "val/foreground_dice", mode: str = "max", patience: int = 10, min_delta: float = 0.0
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode}: give max if a higher {monitor} is better, else min.")
        super().__init__(monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=False)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not go on with a training that had ended, such as one that was killed before it was scored."""
        if stop_reason(self):
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge the score, except after a stop within an epoch, whose validation an uninterrupted run does not have."""
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and not trainer.sanity_checking:
            monitored(trainer, self.monitor, "callbacks.early_stopping.monitor")
            super().on_validation_end(trainer, pl_module)


def stopped_early(trainer: pl.Trainer) -> str | None:
    """Why early stopping ended a training; None if it did not.

    Args:
        trainer: After its fit.

    Returns:
        Such as ``at step 300 of 1000, val/foreground_dice did not improve in 10 validations``.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LightningEarlyStopping) and (reason := stop_reason(callback)):
            return f"at step {trainer.global_step} of {trainer.max_steps}, {callback.monitor} {reason}"
    return None


def stop_reason(callback: LightningEarlyStopping) -> str:
    """Why a callback ended its training, as the end of a sentence about the monitored score; empty if it did not."""
    return {
        EarlyStoppingReason.PATIENCE_EXHAUSTED: f"did not improve in {callback.wait_count} validations",
        EarlyStoppingReason.STOPPING_THRESHOLD: f"reached {callback.stopping_threshold}",
        EarlyStoppingReason.DIVERGENCE_THRESHOLD: f"fell behind {callback.divergence_threshold}",
        EarlyStoppingReason.NON_FINITE_METRIC: "was not finite",
    }.get(callback.stopping_reason, "")
