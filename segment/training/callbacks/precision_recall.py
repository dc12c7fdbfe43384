"""Precision-recall curves of every structure during training."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from segment.data.labels import IGNORE, Labels
from segment.metrics.precision_recall import THRESHOLDS, precision_recall, threshold_counts


class PrecisionRecallCurves(pl.Callback):
    """Draws one curve per structure at every validation, over the voxels of all validation scans, for TensorBoard.

    Uses the probabilities of the validation and the prepared reference on the plan's grid, without voxels that are not
    annotated. Counts are summed over processes. The tag is ``precision_recall/NAME``.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(0)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the counts."""
        labels: Labels = pl_module.labels  # type: ignore[assignment]
        self.counts = torch.zeros(len(labels.structures), 2, THRESHOLDS, dtype=torch.int64, device=pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the voxels of one scan, if a TensorBoard logger is in use."""
        if outputs is None or not any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
            return
        labels: Labels = pl_module.labels  # type: ignore[assignment]
        patches = trainer.datamodule  # type: ignore[attr-defined]
        reference = patches.store.load(patches.val[batch["index"]]).reference
        truth = torch.from_numpy(reference[...]).to(self.counts.device)
        self.counts += threshold_counts(outputs.probabilities, truth, labels.structures, bool(labels.regions), IGNORE)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the curves."""
        counts = trainer.strategy.reduce(self.counts, reduce_op="sum")
        if trainer.sanity_checking or not counts.any():
            return
        labels: Labels = pl_module.labels  # type: ignore[assignment]
        for name, curve in zip(labels.structures, precision_recall(counts.cpu().numpy()), strict=True):
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_pr_curve_raw(f"precision_recall/{name}", *curve, trainer.global_step)
