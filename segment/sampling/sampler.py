"""Which patch of which scan at which step: a function of (seed, sample number) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from segment.augment.counter import generator
from segment.data.case import Case
from segment.preprocessing.chunks import Chunked
from segment.preprocessing.store import Prepared, Store


class SampleNumbers(Sampler[int]):
    """Numbers of the samples of one epoch, going on from where the training stands.

    Args:
        steps: Batches an epoch.
        batch_size: Samples a batch on this process.
        batches_done: Tells how many batches the whole training has taken; asked when an epoch begins.
        rank: This process's place among ``processes``.
        processes: How many processes share each step.
    """

    def __init__(
        self, steps: int, batch_size: int, batches_done: Callable[[], int], rank: int = 0, processes: int = 1
    ) -> None:
        self.steps = steps
        self.batch_size = batch_size
        self.batches_done = batches_done
        self.rank = rank
        self.processes = processes

    def __len__(self) -> int:
        return self.steps * self.batch_size

    def __iter__(self) -> Iterator[int]:
        first = self.batches_done()
        for batch in range(first, (first // self.steps + 1) * self.steps):
            start = (batch * self.processes + self.rank) * self.batch_size
            yield from range(start, start + self.batch_size)


class Patches(Dataset):
    """Random patches of prepared scans; item ``n`` is always the same patch, whichever worker cuts it.

    Args:
        store: Prepared scans.
        cases: Scans to draw from, each with the same chance.
        patch_size: Voxels an axis; scans smaller than it are padded with 0 (the mean) and background.
        seed: The run's seed.
        foreground: Share of the patches that is centred on a random voxel of a random class that occurs.
    """

    def __init__(
        self, store: Store, cases: Sequence[Case], patch_size: Sequence[int], seed: int, foreground: float = 1 / 3
    ) -> None:
        self.store = store
        self.cases = list(cases)
        self.patch_size = np.asarray(patch_size)
        self.seed = seed
        self.foreground = foreground

    def __getitem__(self, sample: int) -> dict[str, Tensor | int]:
        """Patch number ``sample``: image (channel, *patch) float32, reference (1, *patch) uint8, sample."""
        random = generator(self.seed, sample, "patch")
        scan = self.store.load(self.cases[random.integers(len(self.cases))])
        corner = self._corner(scan, random)
        assert scan.reference is not None
        image = cut(scan.image, corner, self.patch_size)
        reference = cut(scan.reference, corner, self.patch_size)[None]
        return {"image": torch.from_numpy(image), "reference": torch.from_numpy(reference), "sample": sample}

    def _corner(self, scan: Prepared, random: np.random.Generator) -> np.ndarray:
        """First voxel of the patch, possibly negative where the scan is smaller than the patch (as in nnU-Net)."""
        shape = np.asarray(scan.image.shape[1:])
        missing = np.maximum(0, self.patch_size - shape)
        low = -(missing // 2)
        high = np.maximum(low, shape - self.patch_size + (missing + 1) // 2)
        on_foreground, free = random.random() < self.foreground, random.integers(low, high, endpoint=True)
        if not (on_foreground and scan.locations):
            return free
        classes = sorted(scan.locations)
        voxels = scan.locations[classes[random.integers(len(classes))]]
        return np.clip(voxels[random.integers(len(voxels))] - self.patch_size // 2, low, high)


def cut(volume: np.ndarray | Chunked, corner: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Copy a box out of a volume, 0 where the box reaches beyond it.

    Args:
        volume: (channel, *spatial) or (*spatial); sliced once, so it may lie on disk.
        corner: First voxel of the box along each spatial axis, may be negative.
        size: Voxels of the box along each spatial axis.
    """
    lead = len(volume.shape) - len(size)
    start, stop = np.maximum(corner, 0), np.minimum(corner + size, volume.shape[lead:])
    part: Any = (..., *(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)))
    values = volume[part]
    if (stop - start == size).all():
        return values if isinstance(volume, Chunked) else np.array(values)
    box = np.zeros((*volume.shape[:lead], *size), volume.dtype)
    inside: Any = (..., *(slice(a - c, b - c) for a, b, c in zip(start, stop, corner, strict=True)))
    box[inside] = values
    return box


class Scans(Dataset):
    """Whole prepared scans, for validation.

    Args:
        store: Prepared scans.
        cases: Which scans, in order.
    """

    def __init__(self, store: Store, cases: Sequence[Case]) -> None:
        self.store = store
        self.cases = list(cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        """Scan number ``index``: image (channel, *spatial) float32 and its index."""
        return {"image": torch.from_numpy(self.store.load(self.cases[index]).image[...]), "index": index}
