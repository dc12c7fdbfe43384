"""Ends a training that is interrupted or terminated after its current step, so that nothing is lost."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

import pytorch_lightning as pl
import torch

from segment.errors import Stopped
from segment.slurm import stop_signals

EVERY = 10  # batches


class StopOnSignal(pl.Callback):
    """After Ctrl-C, SIGTERM or Slurm's SIGUSR1, completes the current step or a running validation, and ends.

    A training of several processes goes on to the next multiple of ten batches, or to the end of the epoch.

    The checkpoint of that moment is that of an epoch's end, from which the training resumes bit for bit. A second
    signal ends the training at once, with the last checkpoint that exists.

    Attributes:
        received: Number of the signal that arrived, in whichever process of the training; None if none did.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Handle SIGUSR1 before Lightning does, which would save a checkpoint of its own under Slurm."""
        self._handle(signal.SIGUSR1)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle the other signals after Lightning, whose handlers end a training without saving it."""
        self._handle(signal.SIGINT, signal.SIGTERM)

    def _handle(self, *numbers: int) -> None:
        """Handle signals, which Python allows in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in {*numbers}.intersection(stop_signals()):
                self._handlers[number] = signal.signal(number, self._receive)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop within an epoch, without the validation that Lightning adds to such a stop."""
        # Several processes ask each other, and wait for their devices, at every tenth batch alone.
        if (trainer.world_size == 1 or (batch_idx + 1) % EVERY == 0) and self._share(trainer):
            trainer.should_stop = True
            if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
                trainer.limit_val_batches = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after a validation during which a signal arrived."""
        if self._share(trainer):
            trainer.should_stop = True

    def _share(self, trainer: pl.Trainer) -> bool:
        """Whether a signal arrived in any process of the training; then every process has received it."""
        if trainer.world_size > 1:
            own = torch.tensor(self.received or 0, device=trainer.strategy.root_device)
            self.received = int(trainer.strategy.reduce(own, reduce_op="max")) or None
        return self.received is not None

    def _receive(self, number: int, frame: object) -> None:
        if self.received is not None:
            raise Stopped(number)
        self.received = number
        again = " Press Ctrl-C again to stop at once." if number == signal.SIGINT else ""
        print(f"\nStopping after this step or validation, and saving.{again}", file=sys.stderr, flush=True)
