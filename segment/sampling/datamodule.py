"""The data module that provides batches to Lightning or a custom training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from segment.data.case import Case, Dataset
from segment.preprocessing.plan import Plan
from segment.preprocessing.store import Store
from segment.sampling.loader import Augmentation, ScanLoader, patch_loader
from segment.sampling.sampler import Patches, Scans
from segment.sampling.unlabelled import Paired


class PatchDataModule(pl.LightningDataModule):
    """Training patches and whole validation scans of one fold; the loaders also work without a Trainer.

    Args:
        store: Prepared scans.
        train: Training scans.
        val: Validation scans.
        seed: The run's seed.
        foreground: Fraction of patches centred on foreground, 0 to 1.
        steps_per_epoch: Batches per epoch.
        workers: Number of loader processes; does not affect the samples.
        weights: Sampling weight by source (`Case.source`); None samples all scans with equal probability.
        extent: Returns the voxels per axis that a sample's augmentation needs, by sample number; None: the patch size.
        augment: Applied to each batch by the loader; None if the training module augments, or for no augmentation.
        exact: Whether the foreground's fraction holds in every batch, see `Patches`.
        unlabelled: Scans of which each training patch is followed by one without reference, see
            `segment.sampling.unlabelled.Paired`; empty: none.
    """

    def __init__(
        self,
        store: Store,
        train: Sequence[Case],
        val: Sequence[Case],
        seed: int = 0,
        foreground: float = 1 / 3,
        steps_per_epoch: int = 250,
        workers: int = 0,
        weights: Mapping[str, float] | None = None,
        extent: Callable[[int], Sequence[int]] | None = None,
        augment: Augmentation | None = None,
        exact: bool = False,
        unlabelled: Sequence[Case] = (),
    ) -> None:
        super().__init__()
        self.store = store
        self.train = list(train)
        self.val = list(val)
        self.patches = Patches(store, train, seed, foreground, weights, extent, exact)
        if unlabelled:
            self.patches = Paired(self.patches, unlabelled)
        self.steps_per_epoch = steps_per_epoch
        self.workers = workers
        self.augment = augment

    @property
    def dataset(self) -> Dataset:
        """The data set, whose labels and channels the network must match."""
        return self.store.dataset

    @property
    def plan(self) -> Plan:
        """The plan: preprocessing and patch size."""
        return self.store.plan

    def train_dataloader(self) -> DataLoader:
        """Batches of patches, `steps_per_epoch` per epoch; each epoch continues where the previous one ended.

        image (batch, channel, *patch) float32, reference (batch, 1, *patch) uint8 class indices, 255 where
        unannotated; sample (batch,); case, a list of ids. Axes are in the plan's order. If a sample's augmentation
        needs a larger box and the loader does not augment, image and reference are lists of one tensor per sample.
        In the second stage of a cascade, reference is (batch, 2, *patch): the first stage's mask follows.
        """
        if self.trainer is None:
            return patch_loader(self.patches, self.steps_per_epoch, workers=self.workers, augment=self.augment)
        trainer = self.trainer
        return patch_loader(
            self.patches,
            self.steps_per_epoch,
            lambda: trainer.fit_loop.total_batch_idx + 1,
            trainer.global_rank,
            trainer.world_size,
            self.workers,
            self.augment,
        )

    def val_dataloader(self) -> ScanLoader:
        """Whole scans one at a time, distributed over the processes: image (channel, *spatial) and index in `val`."""
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return ScanLoader(Scans(self.store, self.val), rank, processes)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, without the sample numbers: the augmentation reads them, and would wait for the device."""
        host = {"sample": batch["sample"]} if "sample" in batch else {}
        moved = {key: value for key, value in batch.items() if key not in host}
        return super().transfer_batch_to_device(moved, device, dataloader_idx) | host
