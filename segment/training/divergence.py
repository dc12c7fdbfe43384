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
        number: Its number in the training, from 1; 0 before it is complete.
        rate: Its learning rate.
    """

    losses: list[Tensor] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)
    number: int = 0
    rate: float = math.nan
    _flags: Tensor | None = None
    _copied: torch.cuda.Event | None = None

    def add(self, loss: Tensor, cases: Sequence[str]) -> None:
        """Add one batch."""
        self.losses.append(loss.detach())
        self.cases.extend(cases)

    def complete(self, norm: Tensor, trainer: pl.Trainer) -> None:
        """Begin to find out whether the step is finite on all processes; does not wait for the device.

        Args:
            norm: Total norm of the gradients.
            trainer: Its trainer.
        """
        self.number, self.rate = trainer.global_step + 1, _rate(trainer)
        flags = torch.stack([torch.isfinite(torch.stack(self.losses)).all(), torch.isfinite(norm)]).float()
        flags = trainer.strategy.reduce(flags, reduce_op="min")
        late = flags.device.type == "cuda"
        self._flags = flags.to("cpu", non_blocking=late)
        if late:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def finite(self) -> tuple[bool, bool]:
        """Whether the losses of a complete step and its gradients are finite; waits until the device has found out."""
        if self._copied is not None:
            self._copied.synchronize()
        assert self._flags is not None
        losses, gradients = self._flags.tolist()
        return bool(losses), bool(gradients)


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
        number = step.number or trainer.global_step + bool(step.losses)  # of the failing step, else of the last one
        rate = step.rate if step.number else _rate(trainer)
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


def _rate(trainer: pl.Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0].get("lr", math.nan))
