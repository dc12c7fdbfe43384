"""How well the nearest neighbours of a patch, by the encoder's features, tell the structure at its centre."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.neighbors import KNeighborsClassifier

from segment.data.labels import IGNORE
from segment.sampling.sampler import Patches, collate

FIRST = 1 << 40  # sample number of the first patch, beyond those of any training
NEIGHBOURS = 20  # as in SimSiam (arXiv 2011.10566), at most


class Probe(pl.Callback):
    """Classifies patches of validation scans by their nearest neighbours among patches of training scans.

    Masks are used here only, never to train. The accuracy is the mean over classes (balanced), so that chance is one
    divided by their number. It is measured before the first step, for the random encoder, and while training.

    Args:
        known: Patches of training scans, centred on every class alike.
        asked: Patches of validation scans, likewise.
        count: Number of each.
        every: Epochs between two measurements.

    Attributes:
        accuracy: Step to accuracy.
        classes: Number of classes among the known patches.
    """

    def __init__(self, known: Patches, asked: Patches, count: int, every: int) -> None:
        self.patches = (known, asked)
        self.count = count
        self.every = every
        self.accuracy: dict[str, float] = {}
        self.classes = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"accuracy": self.accuracy, "classes": self.classes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.accuracy, self.classes = dict(state_dict["accuracy"]), state_dict["classes"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the random encoder."""
        if trainer.global_step == 0:
            self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure every few epochs, and at the end."""
        if (trainer.current_epoch + 1) % self.every == 0 or trainer.global_step >= trainer.max_steps:
            self._measure(trainer, pl_module)

    @torch.no_grad()
    def _measure(self, trainer: pl.Trainer, module: Any) -> None:
        module.network.eval()
        features, classes = zip(*(self._features(module, part) for part in self.patches), strict=True)
        module.network.train()
        if features[0] is None or not (len(classes[0]) and len(classes[1])):
            return
        neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(classes[0])), metric="cosine", weights="distance")
        predicted = neighbours.fit(features[0], classes[0]).predict(features[1])
        accuracy = float(np.mean([np.mean(predicted[classes[1] == one] == one) for one in np.unique(classes[1])]))
        self.classes = len(np.unique(classes[0]))
        self.accuracy[str(trainer.global_step)] = accuracy
        for logger in trainer.loggers:
            logger.log_metrics({"probe/knn": accuracy}, step=trainer.global_step)

    def _features(self, module: Any, patches: Patches) -> tuple[np.ndarray | None, np.ndarray]:
        """Features of patches (n, channels) and the classes at their centres (n,)."""
        found, classes = [], []
        size = patches.store.plan.batch_size
        for start in range(FIRST, FIRST + self.count, size):
            batch = collate([patches[n] for n in range(start, min(start + size, FIRST + self.count))])
            features = module.represent(batch["image"].to(module.device))
            if features is None:
                return None, np.empty(0)
            found.append(features.float().cpu().numpy())
            reference = batch["reference"][:, 0]
            middle: Any = (slice(None), *(length // 2 for length in reference.shape[1:]))
            classes.append(reference[middle].numpy())
        known = np.concatenate(classes)
        return np.concatenate(found)[known != IGNORE], known[known != IGNORE]
