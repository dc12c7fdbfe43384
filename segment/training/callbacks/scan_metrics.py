"""Scores of every validation scan and label during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pytorch_lightning as pl

from segment.data.case import Case, Dataset
from segment.data.labels import IGNORE
from segment.errors import UserError
from segment.io.images import read_grid, read_label
from segment.metrics.metric import Metric, penalty_in
from segment.metrics.scan import score_scan
from segment.metrics.standard import STANDARD
from segment.training.gather import gathered

MOST_TAGS = 2000
"""Scores of single scans that are logged at a validation; with more of them, TensorBoard becomes too slow to use."""


class ScanMetrics(pl.Callback):
    """Scores each predicted scan against its reference on the source grid and logs the scores.

    Logs ``val/foreground_METRIC`` (mean over labels of the mean over scans), ``val/LABEL_METRIC`` and
    ``scan/SCAN/LABEL_METRIC``, unless these are more than `MOST_TAGS`; scans.csv has them at the end. A structure
    absent in both masks has no score and is left out of the means; if all are, the foreground is the worst score, since
    the best checkpoint cannot be chosen by NaN.

    Costly metrics are left to the final scoring, unless the score is followed by a callback or the schedule: on an
    accelerator, distances would take as long as the prediction.

    Args:
        dataset: Names and values of the labels.
        cases: Validation scans, in the order of the loader's indices.
        metrics: Metrics of the run.
    """

    def __init__(self, dataset: Dataset, cases: Sequence[Case], metrics: Sequence[Metric] = STANDARD) -> None:
        self.dataset = dataset
        self.cases = list(cases)
        self.given = tuple(metrics)
        self.metrics = tuple(metric for metric in metrics if not metric.costly)
        self.rows: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the costly metrics that are followed."""
        followers = [*trainer.callbacks, *trainer.lr_scheduler_configs]  # type: ignore[attr-defined]
        followed = {getattr(follower, "monitor", None) for follower in followers}
        self.metrics = tuple(
            metric for metric in self.given if not metric.costly or f"val/foreground_{metric.name}" in followed
        )

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reset the table."""
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
        if outputs is None:
            return
        case = self.cases[batch["index"]]
        labels = self.dataset.labels
        assert case.label is not None
        label = read_label(case.label, read_grid(case.images[0]))
        spacing, structures = label.grid.spacing, labels.structures
        masks = outputs.mask, labels.encode(label.array)
        try:
            tolerance = self.dataset.tolerance
            scored = score_scan(*masks, structures, len(labels), IGNORE, self.metrics, spacing, tolerance)
        except ValueError as error:
            raise UserError(f"{case.id}: {error}. Fix the metric, or leave it out.") from error
        worst = {metric.name: penalty_in(metric, label.grid.shape, spacing) for metric in self.metrics}
        self.rows += [{"case": case.id, "name": score.name, "scores": score.scores, "worst": worst} for score in scored]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the means and every scan."""
        rows = gathered(trainer, self.rows)
        if not rows:
            return
        means = (
            pd.DataFrame([{"name": row["name"], **row["scores"]} for row in rows]).groupby("name", sort=False).mean()
        )
        scores = {f"val/{name}_{metric}": means.loc[name, metric] for name in means.index for metric in means}
        foreground = {f"val/foreground_{metric.name}": self._foreground(metric, means, rows) for metric in self.metrics}
        # Logged below with all others, at the same step.
        pl_module.log_dict(foreground, prog_bar=True, logger=False, sync_dist=trainer.world_size > 1)
        if not trainer.sanity_checking:
            scores = foreground | scores
            shown = rows if sum(len(row["scores"]) for row in rows) <= MOST_TAGS else []
            for row in shown:
                scores |= {f"scan/{row['case']}/{row['name']}_{key}": value for key, value in row["scores"].items()}
            present = {name: float(value) for name, value in scores.items() if value == value}
            for logger in trainer.loggers:
                logger.log_metrics(present, step=trainer.global_step)

    def _foreground(self, metric: Metric, means: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> float:
        """Mean over labels; the worst score if no label has a score."""
        if means[metric.name].notna().any():
            return float(means[metric.name].mean())
        worst = [row["worst"][metric.name] for row in rows]
        return min(worst) if metric.higher_is_better else max(worst)
