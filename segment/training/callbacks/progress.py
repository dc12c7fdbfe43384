"""One progress bar for the whole training, with the remaining time."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from segment.training.callbacks.scan_metrics import ScanMetrics

INTERVAL = 1.0  # seconds between two readings of the loss
TIMED = 10  # steps after which the length of the training is estimated, the first of which is not counted
LONG = 600  # seconds of a training whose length is worth a line


class TrainingProgress(ProgressBar):
    """Shows completed and total steps, loss, last validation score, elapsed and remaining time.

    Where the output is not a terminal (a log file, a cluster job) a plain line is printed at every validation instead,
    and after ten steps how long those that are left will take.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bar: Progress | None = None
        self.task: Any = None
        self.started = time.monotonic()
        self.first = 0
        self.shown = -INTERVAL
        self.timed: float | None = None
        self.enabled = True

    def disable(self) -> None:
        """Turn the bar off; Lightning calls this in every process but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Turn the bar on."""
        self.enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        self.started, self.first = time.monotonic(), trainer.global_step
        if not self.enabled or not sys.stderr.isatty():
            return
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[scores]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            console=Console(stderr=True),
        )
        self.bar.start()
        self.task = self.bar.add_task("training", total=total_steps(trainer), completed=self.first, scores="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the bar."""
        now = time.monotonic()
        if self.bar is None:
            self._estimate(trainer, now)
            return
        if now - self.shown >= INTERVAL:  # to read the loss, the processor waits for the device
            self.shown = now
            self.bar.update(self.task, scores=self._scores(trainer))
        self.bar.update(self.task, completed=trainer.global_step)

    def _estimate(self, trainer: pl.Trainer, now: float) -> None:
        """Say after ten steps how long the others will take, validations aside."""
        done = trainer.global_step - self.first
        if done == 1 and self.timed is None:
            self.timed = now
        if done != TIMED or not self.timed or not self.enabled:
            return
        each, left = (now - self.timed) / (TIMED - 1), (total_steps(trainer) or 0) - trainer.global_step
        self.timed = 0.0  # said once, also where batches are accumulated
        if each * left >= LONG:
            print(f"about {each * left / 3600:.1f} h for {left} steps of {each:.3g} s, and validation", file=sys.stderr)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print a line if there is no terminal."""
        if self.bar is not None or trainer.sanity_checking or not self.enabled:
            return
        done, total, passed = trainer.global_step, total_steps(trainer), time.monotonic() - self.started
        left = f"{passed / max(1, done - self.first) * (total - done) / 60:.1f} min left" if total else ""
        print(f"step {done}/{total or '?'}  {self._scores(trainer)}  {passed / 60:.1f} min  {left}", file=sys.stderr)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Remove the bar."""
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _scores(self, trainer: pl.Trainer) -> str:
        metrics = trainer.progress_bar_metrics
        headings = {"train/loss": "loss"}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ScanMetrics):
                headings |= {f"val/foreground_{metric.name}": metric.info.heading for metric in callback.metrics}
        return "  ".join(f"{name} {float(metrics[key]):.3f}" for key, name in headings.items() if key in metrics)


def total_steps(trainer: pl.Trainer) -> int | None:
    """Optimiser steps of the whole training; None if only a time limit ends it."""
    total = trainer.estimated_stepping_batches
    return int(total) if total != float("inf") else None
