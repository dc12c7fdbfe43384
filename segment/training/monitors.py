"""Scores that callbacks and schedules monitor, by the name under which they are logged."""

from __future__ import annotations

import pytorch_lightning as pl
from torch import Tensor

from segment.errors import UserError, did_you_mean


def monitored(trainer: pl.Trainer, name: str, key: str) -> Tensor:
    """A score of the last validation.

    Args:
        trainer: After a validation.
        name: Name under which the score is logged.
        key: The configuration key that names it.

    Raises:
        UserError: When nothing of that name is logged, with the closest name.
    """
    found = trainer.callback_metrics
    if name not in found:
        hint = did_you_mean(name, found)
        raise UserError(f"{key}={name}: no such score is logged.{hint} There are: {', '.join(sorted(found))}.")
    return found[name]
