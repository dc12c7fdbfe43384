"""Learning to segment from references: training step, and prediction of whole validation scans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from segment.augment.augmentation import Augmentation
from segment.data.labels import IGNORE, Labels
from segment.errors import UserError
from segment.inference.predictor import Predictor, ScanOutput
from segment.inference.windows import SlidingWindows
from segment.losses.deep_supervision import AnyScale
from segment.networks.padding import memory_format
from segment.preprocessing.cascade import one_hot
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Placement
from segment.sampling.loader import NO_SCAN
from segment.training.divergence import Diverged
from segment.training.modules.base import TrainingModule
from segment.training.parameters import ParameterRules


class SegmentationModule(TrainingModule):
    """Trains a network on patches and predicts whole scans for validation.

    Args:
        network: Maps (batch, channel, *patch) to logits (batch, class, *patch), or to a list, finest first, while
            training with deep supervision.
        loss: Called with logits (batch, output, *patch) and class indices (batch, 1, *patch), or regions as from
            `AnyScale`.
        optimizer: Creates the optimiser from the parameters, or from groups of them.
        scheduler: Creates the learning-rate schedule, stepped after every optimiser step, or after every validation if
            it has a `monitor`, the logged score that it follows; None for a constant rate.
        augment: Augmentation of every batch on the training device; None for none.
        plan: How scans are prepared.
        labels: What the outputs stand for.
        windows: How validation scans are covered.
        placements: Placements of the validation scans in their source grids, in the order of the loader's indices.
        seed: The run's seed; random layers draw from (seed, step).
        parameters: Which parameters are trained, and how.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None,
        augment: Augmentation | None,
        plan: Plan,
        labels: Labels,
        windows: SlidingWindows,
        placements: Sequence[Placement],
        seed: int = 0,
        parameters: ParameterRules | None = None,
    ) -> None:
        super().__init__(network, optimizer, scheduler, augment, plan, seed, parameters)
        self.labels = labels
        regions = labels.structures.values() if labels.regions else ()
        self.loss = AnyScale(loss, [*regions], None if labels.ignore is None else IGNORE)
        self.windows = windows
        self.placements = placements

    @property
    def predicting(self) -> nn.Module:
        """The network that predicts scans."""
        return self.network

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the loss of one batch of patches."""
        image, reference = self.augmented(batch)
        if self.plan.previous_stage:
            image = one_hot(torch.cat([image, reference[:, 1:].to(image.dtype)], dim=1), len(self.labels) - 1)
            reference = reference[:, :1]
        logits = self.learn(image.contiguous(memory_format=memory_format(self.dims)))
        with torch.autocast(self.device.type, enabled=False):
            loss: Tensor = self.loss(logits, reference)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(image))
        self.step.add(loss, batch["case"])
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> ScanOutput | None:  # type: ignore[override]
        """Predict the mask of a whole scan on its source grid, and probabilities on the plan's grid.

        None in a process without a scan, of which there may be fewer than processes.
        """
        if batch["index"] == NO_SCAN:
            return None
        predictor = Predictor(self.predicting, self.plan, self.windows, self.labels)
        try:
            return predictor.predict_prepared(batch["image"], self.placements[batch["index"]])
        except UserError as error:
            case = self.datamodule.val[batch["index"]].id
            reason = f"the network's values on the validation scan {case} are not finite"
            raise Diverged(reason, self.step, self.trainer) from error
