"""Patch loaders, with or without a Trainer, that measure waiting time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from segment.parallel import read_ahead
from segment.sampling.sampler import Patches, SampleNumbers, Scans, collate

Augmentation = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""Called with image, reference, sample numbers, spacing and patch size; returns image and reference of patch size."""


NO_SCAN = -1
"""Index that a process without a scan gets once, since every process takes part in the first step of a validation."""


class TimedLoader(DataLoader):
    """PyTorch's loader with a timer.

    Attributes:
        waited: Seconds spent waiting for batches, over all epochs.
    """

    waited = 0.0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = super().__iter__()
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch


class ScanLoader:
    """Whole scans of one process, one at a time; the next one is read while one is predicted.

    Args:
        scans: All scans.
        rank: Rank of this process among ``processes``.
        processes: Number of processes that share the scans.
    """

    def __init__(self, scans: Scans, rank: int = 0, processes: int = 1) -> None:
        self.scans = scans
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        """The most scans of any process: Lightning waits forever where one of several processes has none."""
        return -(-len(self.scans) // self.processes)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # Each scan is predicted once: Lightning's distributed sampler would repeat some to balance the ranks.
        own = range(self.rank, len(self.scans), self.processes)
        return read_ahead(self._read, own) if own else iter([{"index": NO_SCAN}])

    def _read(self, index: int) -> dict[str, Any]:
        scan = self.scans[index]
        image = scan["image"]
        if torch.cuda.is_available() and isinstance(image, torch.Tensor):
            return {**scan, "image": image.pin_memory()}
        return scan


class EpochCounter:
    """Counts batches by the epochs started, for a loader without a Trainer.

    Args:
        steps: Batches per epoch.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.started = 0

    def __call__(self) -> int:
        """Number of the first batch of the epoch that starts now."""
        self.started += 1
        return (self.started - 1) * self.steps


def patch_loader(
    patches: Patches,
    steps: int,
    batches_done: Callable[[], int] | None = None,
    rank: int = 0,
    processes: int = 1,
    workers: int = 0,
    augment: Augmentation | None = None,
) -> TimedLoader:
    """Create a loader of patches in batches of the plan's size.

    Args:
        patches: The patches to load.
        steps: Batches per epoch.
        batches_done: Returns the number of batches already used, called when an epoch starts; None: epoch ``n``, from
            0, starts at batch ``n * steps``.
        rank: Rank of this process among ``processes``.
        processes: Number of processes that share each step.
        workers: Number of loader processes; does not affect the batches.
        augment: Applied to each batch in the loader process; None for unaugmented patches.
    """
    plan = patches.store.plan
    numbers = SampleNumbers(steps, plan.batch_size, batches_done or EpochCounter(steps), rank, processes)
    return TimedLoader(
        patches,
        batch_size=plan.batch_size,
        sampler=numbers,
        collate_fn=collate if augment is None else partial(_collate_augmented, augment, plan.spacing, plan.patch_size),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_ignore_signals,
    )


def _ignore_signals(worker: int) -> None:
    """Leave the signals that reach all processes to the main process, which needs its workers to the end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _collate_augmented(
    augment: Augmentation, spacing: Sequence[float], size: Sequence[int], items: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Make a batch of augmented patches."""
    batch = collate(items)
    image, reference = augment(batch["image"], batch["reference"], batch["sample"].tolist(), spacing, size)
    return batch | {"image": image, "reference": reference}
