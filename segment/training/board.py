"""The logger of TensorBoard's files, whose page opens on the losses and Dice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

from segment.runs.curves import board_tag


class BoardLogger(TensorBoardLogger):
    """Lightning's logger, with the names of `segment.runs.curves.board_tag`; without Lightning's curve ``epoch``."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log scalars under the names that TensorBoard shows."""
        super().log_metrics({board_tag(tag): value for tag, value in metrics.items() if tag != "epoch"}, step)
