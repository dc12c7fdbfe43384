"""Stop a training whose loss or gradients are no longer finite, and report the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from segment.errors import UserError

MOST_CASES = 8  # listed in the message


@dataclass
class Step:
    """The batches of one optimiser step so far: one, or several if gradients are accumulated.

    Attributes:
        losses: Scalar loss of each batch.
        cases: Scan of each patch.
    """

    losses: list[Tensor] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)

    def add(self, loss: Tensor, cases: Sequence[str]) -> None:
        """Add one batch."""
        self.losses.append(loss.detach())
        self.cases.extend(cases)

    def is_finite(self, *more: Tensor) -> bool:
        """Whether all losses and the given scalars are finite; synchronises with the device once."""
        return bool(torch.isfinite(torch.stack([*self.losses, *more])).all())


class Diverged(UserError):
    """The training cannot continue; the command ends with exit code 2.

    Args:
        reason: What is not finite.
        step: Batches of the step; empty if the divergence is found after a step.
        trainer: Its trainer.

    Attributes:
        record: Step, reason, losses, scans, learning rate and precision as plain values, for a file.
    """

    def __init__(self, reason: str, step: Step, trainer: pl.Trainer) -> None:
        number = trainer.global_step + bool(step.losses)  # of the failing step, otherwise of the last one
        rate = float(trainer.optimizers[0].param_groups[0].get("lr", math.nan))
        losses = [float(loss) for loss in step.losses]
        cases = list(dict.fromkeys(step.cases))
        self.record: dict[str, Any] = {
            "step": number,
            "reason": reason,
            "losses": [loss if math.isfinite(loss) else str(loss) for loss in losses],
            "cases": cases,
            "learning_rate": rate if math.isfinite(rate) else str(rate),
            "precision": str(trainer.precision),
        }
        listed = ", ".join(cases[:MOST_CASES]) + (f" and {len(cases) - MOST_CASES} more" if cases[MOST_CASES:] else "")
        precision = [] if trainer.precision == "32-true" else ["trainer.precision=32-true"]
        remedies = " or ".join(["a smaller optimizer.lr", "another loss=", *precision])
        scans = f", its scans {listed}" if listed else ""
        super().__init__(
            f"the training diverged at step {number} of {trainer.max_steps}: {reason}. That step's learning rate was "
            f"{rate:.3g}, its precision {trainer.precision}{scans}. A diverged training is not a valid result. Try "
            f"{remedies}, with another name=; the same command would fail again."
        )
