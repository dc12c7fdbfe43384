"""A callback that ends a training in the middle of an epoch, as a time limit does."""

import os

import pytorch_lightning as pl


class StopAt(pl.Callback):
    """Ends the training after the step that the environment variable STOP_AT names; without it, never."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == int(os.environ.get("STOP_AT", "-1")):
            trainer.should_stop = True


class Interrupt(pl.Callback):
    """Presses Ctrl-C after the first step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        raise KeyboardInterrupt


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
