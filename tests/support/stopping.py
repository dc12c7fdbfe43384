"""A callback that ends a training in the middle of an epoch, as a time limit does."""

import os
import signal

import pytorch_lightning as pl
from pytorch_lightning.plugins import MixedPrecision


class StopAt(pl.Callback):
    """Ends the training after the step that the environment variable STOP_AT names; without it, never."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == int(os.environ.get("STOP_AT", "-1")):
            trainer.should_stop = True


class Interrupt(pl.Callback):
    """Presses Ctrl-C after the first step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        raise KeyboardInterrupt


class Signal(pl.Callback):
    """Sends this process the signals that SIGNALS names, in batch SIGNAL_AT of the whole training.

    With SIGNAL_IN=validation it sends them in the first validation after that batch. Without the variables it does
    nothing, so that the same configuration resumes.
    """

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx + 1 == self._batch() and "SIGNAL_IN" not in os.environ:
            self._send()

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if "SIGNAL_IN" in os.environ and batch_idx == 0 and trainer.fit_loop.total_batch_idx + 1 > self._batch():
            self._send()

    def _batch(self) -> int:
        return int(os.environ.get("SIGNAL_AT", "-1"))

    def _send(self) -> None:
        for number in os.environ["SIGNALS"].split():
            signal.raise_signal(int(number))


class StopAtBatch(pl.Callback):
    """Ends the training after the batch that the environment variable STOP_AT_BATCH names; without it, never."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx + 1 == int(os.environ.get("STOP_AT_BATCH", "-1")):
            trainer.should_stop = True


class NotFiniteAt(pl.Callback):
    """Spoils the network's head before the step that the environment variable NAN_AT names."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == int(os.environ.get("NAN_AT", "-1")):
            next(pl_module.network.parameters()).data.fill_(float("nan"))


class GradientNotFiniteAt(pl.Callback):
    """Spoils one gradient before the step that the environment variable NAN_AT names; the loss stays finite."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step + 1 == int(os.environ.get("NAN_AT", "-1")):
            next(pl_module.network.parameters()).grad.view(-1)[0] = float("inf")


class OverflowAt(pl.Callback):
    """Trains in fp16, which Lightning refuses on a CPU, and lets a gradient overflow in the step that NAN_AT names."""

    def setup(self, trainer, pl_module, stage):
        trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu")

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step + 1 == int(os.environ.get("NAN_AT", "-1")):
            next(pl_module.network.parameters()).grad.view(-1)[0] = float("inf")
