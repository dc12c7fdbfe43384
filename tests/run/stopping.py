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
