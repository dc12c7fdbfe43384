"""The data module that Lightning asks for batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from segment.data.case import Case
from segment.preprocessing.store import Store
from segment.sampling.loader import TimedLoader
from segment.sampling.sampler import Patches, SampleNumbers, Scans, collate


class PatchDataModule(pl.LightningDataModule):
    """Training patches and whole validation scans of one fold.

    Args:
        store: Prepared scans.
        train: Training scans.
        val: Validation scans.
        seed: The run's seed.
        foreground: Share of the patches centred on foreground, 0 to 1.
        steps_per_epoch: Batches between two checkpoints.
        workers: Loader processes; the samples are the same for any number.
        weights: Chance of a scan by its source; None for the same chance for each.
        extent: Tells for a sample's number how many voxels an axis its augmentation needs; None: the patch itself.
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
    ) -> None:
        super().__init__()
        self.store = store
        self.train = list(train)
        self.val = list(val)
        self.patches = Patches(store, train, seed, foreground, weights, extent)
        self.steps_per_epoch = steps_per_epoch
        self.workers = workers

    def train_dataloader(self) -> DataLoader:
        """Batches of patches: image (batch, channel, *patch), reference (batch, 1, *patch), sample (batch,).

        Where a sample's augmentation needs a larger box, image and reference are lists of one tensor a sample.
        """
        trainer = self.trainer
        assert trainer is not None
        numbers = SampleNumbers(
            self.steps_per_epoch,
            self.store.plan.batch_size,
            lambda: trainer.fit_loop.total_batch_idx + 1,
            trainer.global_rank,
            trainer.world_size,
        )
        return TimedLoader(
            self.patches,
            batch_size=self.store.plan.batch_size,
            sampler=numbers,
            collate_fn=collate,
            **self._loading(),
            persistent_workers=self.workers > 0,
        )

    def val_dataloader(self) -> DataLoader:
        """Whole scans one at a time, shared out over the processes."""
        trainer = self.trainer
        assert trainer is not None
        # Each scan is predicted once: Lightning's distributed sampler would repeat some to even out the ranks.
        mine = range(trainer.global_rank, len(self.val), trainer.world_size)
        return DataLoader(Scans(self.store, self.val), batch_size=None, sampler=mine)

    def _loading(self) -> dict[str, Any]:
        import torch

        return {"num_workers": self.workers, "pin_memory": torch.cuda.is_available()}
