"""A callback that takes away what a training needs, in its third batch, if the environment variable FAULT says so."""

import os
import shutil
import time
from pathlib import Path

import pytorch_lightning as pl


class Fault(pl.Callback):
    """FAULT=folder: removes it. FAULT=clock: sets the process's clock back by a day."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        fault = os.environ.get("FAULT")
        if fault is None or trainer.fit_loop.total_batch_idx != 1:
            return
        if fault == "clock":
            now = time.time
            time.time = lambda: now() - 86_400
        elif Path(fault).exists():
            shutil.rmtree(fault)
