"""Estimate the duration of a training from its first steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl


class Stopwatch(pl.Callback):
    """Times the first training steps of a process, so that the remaining time can be estimated.

    The first quarter of the steps is a warm-up and does not count; neither does validation between steps.

    Args:
        steps: Number of steps to time, at least 1.
        report: Called once with the seconds per step, after these steps.

    Attributes:
        seconds_per_step: None until the steps are done.
    """

    def __init__(self, steps: int = 20, report: Callable[[float], None] | None = None) -> None:
        self.steps = steps
        self.report = report
        self.seconds_per_step: float | None = None
        self.done = 0
        self.scans = 0
        self.validating = 0.0
        self.mark = 0.0
        self.began = 0.0

    @property
    def seconds_per_scan(self) -> float | None:
        """Seconds to predict and score a validation scan; None if there was none."""
        return self.validating / self.scans if self.scans else None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start timing."""
        self.mark = self._now()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step."""
        self.done += 1
        warm_up = self.steps // 4
        if self.done == warm_up:
            self.mark = self._now()
        elif self.done == self.steps:
            self.seconds_per_step = (self._now() - self.mark) / (self.steps - warm_up)
            if self.report is not None:
                self.report(self.seconds_per_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start timing the validation."""
        self.began = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a scored scan."""
        self.scans += outputs is not None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the time of the validation."""
        self.validating += time.perf_counter() - self.began

    def _now(self) -> float:
        return time.perf_counter() - self.validating
