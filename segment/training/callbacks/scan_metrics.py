"""Dice and IoU of every validation scan and label over the course of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from segment.data.case import Case, Dataset
from segment.data.labels import IGNORE
from segment.io.images import read_label
from segment.metrics.scan import score_scan

METRICS = ("dice", "iou")


class ScanMetrics(pl.Callback):
    """Scores each predicted scan against its reference on the source grid and logs the scores.

    Logs ``val/foreground_dice`` (mean over labels of the mean over scans), ``val/LABEL_dice`` and, under ``scan/``,
    every scan; the same for IoU. A structure absent in both masks has no score and is left out of the means.

    Args:
        dataset: Names and values of the labels.
        cases: Validation scans, in the order of the loader's indices.
    """

    def __init__(self, dataset: Dataset, cases: Sequence[Case]) -> None:
        self.dataset = dataset
        self.cases = list(cases)
        self.rows: list[dict[str, Any]] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin an empty table."""
        self.rows = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score one scan."""
        case = self.cases[batch["index"]]
        labels = self.dataset.labels
        assert case.label is not None
        reference = labels.encode(read_label(case.label).array)
        for score in score_scan(outputs["prediction"], reference, labels.structures, len(labels), IGNORE):
            self.rows.append({"case": case.id, "name": score.name, "dice": score.dice, "iou": score.iou})

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the means and every scan."""
        rows = self.rows
        if trainer.world_size > 1:
            shares: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, rows)
            rows = [row for share in shares for row in share]
        if not rows:
            return
        table = pd.DataFrame(rows)
        means = table.groupby("name", sort=False)[list(METRICS)].mean()
        scores = {f"val/{name}_{metric}": means.loc[name, metric] for name in means.index for metric in METRICS}
        foreground = {f"val/foreground_{metric}": float(np.nan_to_num(means[metric].mean())) for metric in METRICS}
        pl_module.log_dict(foreground, prog_bar=True, sync_dist=trainer.world_size > 1)
        if not trainer.sanity_checking:
            for row in rows:
                scores |= {f"scan/{row['case']}/{row['name']}_{metric}": row[metric] for metric in METRICS}
            present = {name: float(value) for name, value in scores.items() if value is not None and value == value}
            for logger in trainer.loggers:
                logger.log_metrics(present, step=trainer.global_step)
