"""How long a training step takes, and what share of it the network waits for data."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl


class Pace(pl.Callback):
    """Measures training steps and logs ``time/seconds_per_step`` and ``time/waiting_share``.

    A step is the wait for its batch and the work on it, validation and checkpoints left out. The wait is what the
    training loader (`segment.sampling.loader.TimedLoader`) measures. A resumed run adds to what it measured before.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.waited = 0.0
        self.worked = 0.0
        self.logged = (0, 0.0, 0.0)
        self.began = 0.0
        self.seen = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "waited": self.waited, "worked": self.worked}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.steps, self.waited, self.worked = (state_dict[key] for key in ("steps", "waited", "worked"))
        self.logged = (self.steps, self.waited, self.worked)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What was waited before belongs to nobody."""
        self.seen = _waited(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch is there."""
        total = _waited(trainer)
        self.waited += max(0.0, total - self.seen)
        self.seen = total
        self.began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The step is done."""
        self.worked += time.perf_counter() - self.began
        self.steps += 1
        steps, waited, worked = self.logged
        if self.steps - steps < trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        self.logged = (self.steps, self.waited, self.worked)
        values = _figures(self.steps - steps, self.waited - waited, self.worked - worked)
        for logger in trainer.loggers:
            logger.log_metrics({f"time/{key}": value for key, value in values.items()}, step=trainer.global_step)

    def cost(self) -> dict[str, float]:
        """``seconds_per_step`` and ``waiting_share`` (0 to 1) over the whole training; empty before the first step."""
        return _figures(self.steps, self.waited, self.worked) if self.steps else {}


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


def _figures(steps: int, waited: float, worked: float) -> dict[str, float]:
    return {"seconds_per_step": (waited + worked) / steps, "waiting_share": waited / (waited + worked)}


def _waited(trainer: pl.Trainer) -> float:
    return float(getattr(trainer.train_dataloader, "waited", 0.0))
