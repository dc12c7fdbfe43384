"""The LightningModule: one training step, one whole-scan prediction, and what optimises the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segment.data.labels import IGNORE, Labels
from segment.inference.predictor import Predictor
from segment.inference.windows import SlidingWindows
from segment.losses.deep_supervision import AnyScale
from segment.networks.padding import channels_last, memory_format
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Placement

Boxes = Tensor | Sequence[Tensor]  # one a sample, stacked where they are of one size
Augmentation = Callable[[Boxes, Boxes, Sequence[int], Sequence[float], Sequence[int]], tuple[Tensor, Tensor]]


class SegmentationModule(pl.LightningModule):
    """Trains a network on patches and predicts whole scans for validation.

    Args:
        network: Maps (batch, channel, *patch) to logits (batch, class, *patch), or to a list, finest first, while
            training with deep supervision.
        loss: Called with logits (batch, output, *patch) and class indices (batch, 1, *patch), or regions as `AnyScale`
            makes them.
        optimizer: Makes the optimiser from the parameters.
        scheduler: Makes the learning-rate schedule, stepped after every optimiser step; None for a constant rate.
        augment: Called with image, reference, sample numbers, spacing and patch size on the training device, gives
            image and reference stacked at patch size; None for none.
        plan: How scans are prepared.
        labels: What the outputs stand for.
        windows: How validation scans are covered.
        placements: Where the validation scans come from, in the order of the loader's indices.
        seed: The run's seed; random layers draw from (seed, step).
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        augment: Augmentation | None,
        plan: Plan,
        labels: Labels,
        windows: SlidingWindows,
        placements: Sequence[Placement],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dims = len(plan.spacing)
        self.network = channels_last(network, self.dims)
        self.labels = labels
        regions = labels.structures.values() if labels.regions else ()
        self.loss = AnyScale(loss, [*regions], None if labels.ignore is None else IGNORE)
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.augment = augment
        self.plan = plan
        self.windows = windows
        self.placements = placements
        self.seed = seed

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Seed the random layers by the number of the batch, so that a resumed run draws the same numbers."""
        torch.manual_seed(hash((self.seed, self.trainer.fit_loop.total_batch_idx, self.global_rank)) % 2**63)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch of patches."""
        image, reference = batch["image"], batch["reference"]
        if self.augment is not None:
            with torch.autocast(self.device.type, enabled=False):
                numbers = batch["sample"].tolist()
                image, reference = self.augment(image, reference, numbers, self.plan.spacing, self.plan.patch_size)
        logits = self.network(image.contiguous(memory_format=memory_format(self.dims)))
        with torch.autocast(self.device.type, enabled=False):
            loss: Tensor = self.loss(logits, reference)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(image))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Class indices of one whole scan on its source grid, and probabilities (output, *spatial) on the plan's."""
        predictor = Predictor(self.network, self.plan, self.windows, self.labels)
        seen: list[Tensor] = []
        placement = self.placements[batch["index"]]
        prediction = predictor.predict_prepared(batch["image"], placement, lambda found, _: seen.append(found))
        return {"prediction": prediction, "probabilities": seen[0]}

    def configure_optimizers(self) -> Any:
        """The optimiser and, stepped after every optimiser step, the schedule."""
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return optimizer
        return [optimizer], [{"scheduler": self.make_scheduler(optimizer), "interval": "step"}]
