"""How long the rest of a training will take, told from its first steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl


class Stopwatch(pl.Callback):
    """Times the first training steps of a process, so that it can be said how long the rest will take.

    The first quarter of them warms up and does not count; validation in between does not either.

    Args:
        steps: How many steps to time, at least 1.
        tell: Called once with the seconds a step, when they are done.

    Attributes:
        seconds_per_step: None before the steps are done.
    """

    def __init__(self, steps: int = 20, tell: Callable[[float], None] | None = None) -> None:
        self.steps = steps
        self.tell = tell
        self.seconds_per_step: float | None = None
        self.done = 0
        self.scans = 0
        self.validating = 0.0
        self.mark = 0.0
        self.began = 0.0

    @property
    def seconds_per_scan(self) -> float | None:
        """Seconds that predicting and scoring a validation scan took; None where none was."""
        return self.validating / self.scans if self.scans else None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The clock runs."""
        self.mark = self._now()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One more step is done."""
        self.done += 1
        warm_up = self.steps // 4
        if self.done == warm_up:
            self.mark = self._now()
        elif self.done == self.steps:
            self.seconds_per_step = (self._now() - self.mark) / (self.steps - warm_up)
            if self.tell is not None:
                self.tell(self.seconds_per_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation begins."""
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
        """One more scan is scored."""
        self.scans += 1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is done."""
        self.validating += time.perf_counter() - self.began

    def _now(self) -> float:
        return time.perf_counter() - self.validating
