"""What the processes of a training found, together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch

T = TypeVar("T")


def gathered(trainer: pl.Trainer, items: Sequence[T]) -> list[T]:
    """The items of every process, in the order of the processes; all of them must call it.

    Args:
        trainer: The trainer.
        items: Plain values, of which processes may have different numbers.
    """
    if trainer.world_size == 1:
        return list(items)
    shares: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(shares, list(items))
    return [item for share in shares for item in share]
