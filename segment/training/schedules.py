"""Learning-rate schedules beyond torch's."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau


class Plateau(ReduceLROnPlateau):
    """Multiplies the learning rate by a factor whenever a monitored score stops improving.

    Args:
        optimizer: Its learning rates are changed.
        monitor: Logged score, such as ``val/foreground_dice``; see `segment.training.callbacks.scan_metrics`.
        mode: ``max`` if a higher score is better, else ``min``.
        factor: In (0, 1).
        patience: Validations without an improvement that are tolerated.
        threshold: Least improvement that counts, relative to the best score.
        min_lr: The learning rate is not reduced below it.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        monitor: str = "val/foreground_dice",
        mode: str = "max",
        factor: float = 0.5,
        patience: int = 5,
        threshold: float = 1e-4,
        min_lr: float = 0.0,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode={mode}: give max if a higher {monitor} is better, else min.")
        super().__init__(optimizer, mode, factor, patience, threshold, min_lr=min_lr)  # type: ignore[arg-type]
        self.monitor = monitor
