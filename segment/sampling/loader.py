"""Loaders of patches, with or without a Trainer, that know how long they were waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from segment.sampling.sampler import Patches, SampleNumbers, collate

Augmentation = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""Called with image, reference, sample numbers, spacing and patch size; gives image and reference at patch size."""


class TimedLoader(DataLoader):
    """torch's loader with a stopwatch.

    Attributes:
        waited: Seconds that whoever asked for batches has waited for them, over all epochs.
    """

    waited = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch


class Passes:
    """Counts batches by the passes that were begun, for a loader that no Trainer counts for.

    Args:
        steps: Batches a pass.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.begun = 0

    def __call__(self) -> int:
        """Number of the first batch of the pass that begins now."""
        self.begun += 1
        return (self.begun - 1) * self.steps


def patch_loader(
    patches: Patches,
    steps: int,
    batches_done: Callable[[], int] | None = None,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
    augment: Augmentation | None = None,
) -> TimedLoader:
    """A loader of patches in batches of the plan's size.

    Args:
        patches: What to cut.
        steps: Batches a pass.
        batches_done: Tells how many batches were taken when a pass begins; None: pass ``n``, from 0, gives the batches
            from ``n * steps``.
        rank: This process's place among ``processes``.
        processes: How many processes share each step.
        workers: Loader processes; the batches are the same for any number.
        augment: Applied to each batch by whoever loads it; None gives the patches as they are.
    """
    plan = patches.store.plan
    numbers = SampleNumbers(steps, plan.batch_size, batches_done or Passes(steps), rank, processes)
    return TimedLoader(
        patches,
        batch_size=plan.batch_size,
        sampler=numbers,
        collate_fn=collate if augment is None else partial(_augmented, augment, plan.spacing, plan.patch_size),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def _augmented(
    augment: Augmentation, spacing: Sequence[float], size: Sequence[int], items: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A batch of augmented patches."""
    batch = collate(items)
    image, reference = augment(batch["image"], batch["reference"], batch["sample"].tolist(), spacing, size)
    return batch | {"image": image, "reference": reference}
