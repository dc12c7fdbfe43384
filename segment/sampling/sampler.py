"""Patch sampling as a function of (seed, sample number) only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from segment.augment.counter import generator
from segment.data.case import Case
from segment.errors import UserError, did_you_mean
from segment.preprocessing.chunks import Chunked
from segment.preprocessing.locations import ANNOTATED
from segment.preprocessing.store import Prepared, Store


class SampleNumbers(Sampler[int]):
    """Sample numbers of one epoch, continuing from the training's current position.

    Args:
        steps: Batches per epoch.
        batch_size: Samples per batch on this process.
        batches_done: Returns the number of batches that the training has used so far; called when an epoch starts.
        rank: Rank of this process among ``processes``.
        processes: Number of processes that share each step.
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
    """Random patches of prepared scans; item ``n`` is always the same patch, whichever worker loads it.

    Args:
        store: Prepared scans.
        cases: Scans to draw from.
        seed: The run's seed.
        foreground: Fraction of patches centred on a voxel of a structure; every structure in the scan is chosen with
            equal probability, whatever its size. The other patches are placed uniformly at random; with an ignore
            label, they are centred on an annotated voxel.
        weights: Relative sampling weight by source (`Case.source`), divided equally among the scans of a source; None
            samples all scans with equal probability.
        extent: Returns the voxels per axis that a sample's augmentation needs, by sample number: the patch size or
            larger by an even number; the box is centred on the patch. None: the patch size.
        exact: Whether the last patches of every batch are those centred on foreground, as in nnU-Net, instead of each
            patch with that probability; of ``b`` patches, ``b - round(b * (1 - foreground))``, so one of two at 1/3.

    Raises:
        UserError: If the weights lack a source or are invalid.
    """

    def __init__(
        self,
        store: Store,
        cases: Sequence[Case],
        seed: int,
        foreground: float = 1 / 3,
        weights: Mapping[str, float] | None = None,
        extent: Callable[[int], Sequence[int]] | None = None,
        exact: bool = False,
    ) -> None:
        self.store = store
        self.cases = list(cases)
        self.exact = exact
        self.sliced = store.plan.sliced
        self.patch_size = np.asarray((1, *store.plan.patch_size) if self.sliced else store.plan.patch_size)
        self.structures = list(store.dataset.labels.structures.values())
        self.seed = seed
        self.foreground = foreground
        self.probabilities = None if weights is None else probabilities([case.source for case in self.cases], weights)
        self.extent = extent

    def __getitem__(self, sample: int) -> dict[str, Tensor | int | str]:
        """Patch number ``sample``: image (channel, *box) float32, reference (1, *box) uint8, sample, id of the case.

        In the second stage of a cascade, the first stage's mask follows the reference: (2, *box).
        """
        random = generator(self.seed, sample, "patch")
        case = self._choose(random)
        scan = self.store.load(case)
        return self._patch(case, scan, self._corner(scan, random, self._forced(sample)), sample)

    def _choose(self, random: np.random.Generator) -> Case:
        """A scan, by the weights of the sources."""
        if self.probabilities is None:  # the same numbers as without weights
            return self.cases[int(random.integers(len(self.cases)))]
        return self.cases[int(random.choice(len(self.cases), p=self.probabilities))]

    def _patch(self, case: Case, scan: Prepared, corner: np.ndarray, sample: int) -> dict[str, Tensor | int | str]:
        """The box that the augmentation of a sample needs around the patch at a corner."""
        size = self.patch_size
        if self.extent is not None:
            extent = self.extent(sample)
            size = np.asarray((1, *extent) if self.sliced else extent)
        corner = corner - (size - self.patch_size) // 2
        image = torch.from_numpy(cut(scan.image, corner, size))
        if scan.reference is None:
            reference = torch.zeros((1, *image.shape[1:]), dtype=torch.uint8)
        else:
            reference = torch.from_numpy(cut(scan.reference, corner, size)[None])
        if scan.previous is not None:
            reference = torch.cat([reference, torch.from_numpy(cut(scan.previous, corner, size)[None])])
        if self.sliced:
            image, reference = image[:, 0], reference[:, 0]
        return {"image": image, "reference": reference, "sample": sample, "case": case.id}

    def _forced(self, sample: int) -> bool | None:
        """Whether the place of a sample in its batch decides that it is centred on foreground; None if chance does."""
        if not self.exact:
            return None
        batch = self.store.plan.batch_size
        return sample % batch >= round(batch * (1 - self.foreground))

    def _bounds(self, scan: Prepared) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest first voxel of a patch along each axis."""
        shape = np.asarray(scan.image.shape[1:])
        missing = np.maximum(0, self.patch_size - shape)
        low = -(missing // 2)
        return low, np.maximum(low, shape - self.patch_size + (missing + 1) // 2)

    def _corner(self, scan: Prepared, random: np.random.Generator, forced: bool | None = None) -> np.ndarray:
        """First voxel of the patch, possibly negative if the scan is smaller than the patch (as in nnU-Net)."""
        low, high = self._bounds(scan)
        on_foreground, free = random.random() < self.foreground, random.integers(low, high, endpoint=True)
        on_foreground = on_foreground if forced is None else forced
        present = [[index for index in members if index in scan.locations] for members in self.structures]
        present = [members for members in present if members]
        if on_foreground and present:
            members = present[random.integers(len(present))]
            voxels = scan.locations[members[random.integers(len(members))]]
        elif ANNOTATED in scan.locations:
            voxels = scan.locations[ANNOTATED]
        else:
            return free
        return np.clip(voxels[random.integers(len(voxels))] - self.patch_size // 2, low, high)


def probabilities(sources: Sequence[str], weights: Mapping[str, float]) -> np.ndarray:
    """Sampling probability of each scan from the weights of the sources.

    Args:
        sources: Source of each scan.
        weights: Weight of every source, nonnegative, at least one positive.

    Returns:
        float64 (scan,), sum 1.

    Raises:
        UserError: If a source has no weight, or the weights are invalid.
    """
    counts = Counter(sources)
    for source in counts:
        if source not in weights:
            raise UserError(
                f"sampler.weights={dict(weights)}: has no weight for the scans of source {source!r}."
                f"{did_you_mean(source, weights)} The data set's sources are {', '.join(map(repr, counts))} "
                "(the column 'source' of its table)."
            )
    shares = np.array([weights[source] / counts[source] for source in sources], np.float64)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise UserError(f"sampler.weights={dict(weights)}: give nonnegative numbers, at least one of them positive.")
    return shares / shares.sum()


def collate(items: Sequence[Any]) -> dict[str, Any]:
    """Make a batch of patches.

    Args:
        items: Items of `Patches`, or of `segment.sampling.views.Views`, whose views follow each other.

    Returns:
        image and reference, stacked if all boxes have the same size, else a list of one tensor per sample; sample
        (batch,); case, a list of ids.
    """
    items = [view for item in items for view in (item if isinstance(item, list) else [item])]
    batch: dict[str, Any] = {
        "sample": torch.tensor([item["sample"] for item in items]),
        "case": [item["case"] for item in items],
    }
    for key in ("image", "reference"):
        boxes = [item[key] for item in items]
        batch[key] = default_collate(boxes) if len({box.shape for box in boxes}) == 1 else boxes
    return batch


def cut(volume: np.ndarray | Chunked, corner: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Copy a box from a volume, padded with 0 outside the volume.

    Args:
        volume: (channel, *spatial) or (*spatial); sliced once, so it may be on disk.
        corner: First voxel of the box along each spatial axis; may be negative.
        size: Voxels of the box along each spatial axis.
    """
    leading = len(volume.shape) - len(size)
    start, stop = np.maximum(corner, 0), np.minimum(corner + size, volume.shape[leading:])
    part: Any = (..., *(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True)))
    values = volume[part]
    if (stop - start == size).all():
        return values if isinstance(volume, Chunked) else np.array(values)
    box = np.zeros((*volume.shape[:leading], *size), volume.dtype)
    inside: Any = (..., *(slice(a - c, b - c) for a, b, c in zip(start, stop, corner, strict=True)))
    box[inside] = values
    return box


class Scans(Dataset):
    """Whole prepared scans, for validation.

    Args:
        store: Prepared scans.
        cases: The scans, in order.
    """

    def __init__(self, store: Store, cases: Sequence[Case]) -> None:
        self.store = store
        self.cases = list(cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        """Scan number ``index``: image (channel, *spatial) float32 and its index.

        In the second stage of a cascade, the first stage's class indices are the last channel.
        """
        return {"image": torch.from_numpy(self.store.load(self.cases[index]).whole()), "index": index}
