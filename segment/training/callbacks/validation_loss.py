"""The loss of the validation scans."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from segment.data.labels import Labels
from segment.training.gather import gathered

_log = logging.getLogger(__name__)
_MOST_VALUES = 1 << 25  # of probabilities whose loss is computed at once: copies of a whole scan take gigabytes


class ValidationLoss(pl.Callback):
    """Logs ``val/loss`` at every validation: the training's loss of whole scans, mean over scans.

    It is computed from the blended probabilities of the windows on the plan's grid, so with test-time augmentation it
    is the loss of the averaged prediction. A loss that cannot be computed on whole scans is left out, with a warning.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.impossible = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the losses of the validation before."""
        self.losses = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Compute the loss of one scan."""
        if outputs is None or trainer.sanity_checking or self.impossible:
            return
        patches, probabilities = trainer.datamodule, outputs.probabilities  # type: ignore[attr-defined]
        reference = torch.from_numpy(patches.store.load(patches.val[batch["index"]]).reference[...])
        labels: Labels = pl_module.labels  # type: ignore[assignment]
        dims = len(pl_module.plan.spacing)  # type: ignore[union-attr,arg-type]
        loss: nn.Module = pl_module.loss  # type: ignore[assignment]
        try:
            self.losses.append(scan_loss(loss, probabilities, reference, bool(labels.regions), dims))
        except Exception as error:  # a loss of one's own may raise anything
            self.impossible = True
            _log.warning("No validation loss: the loss cannot be computed on whole scans (%r).", error)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the mean over scans."""
        if trainer.sanity_checking:
            return
        # Processes have different numbers of scans, perhaps none; and one may have found that it is impossible.
        found = gathered(trainer, [None] if self.impossible else self.losses)
        losses = [loss for loss in found if loss is not None]
        self.impossible = len(losses) < len(found)
        if self.impossible or not losses:
            return
        mean = torch.tensor(sum(losses) / len(losses), device=pl_module.device)
        pl_module.log("val/loss", mean, logger=False)
        for logger in trainer.loggers if mean.isfinite() else ():
            logger.log_metrics({"val/loss": float(mean)}, step=trainer.global_step)


@torch.no_grad()
def scan_loss(loss: nn.Module, probabilities: Tensor, reference: Tensor, regions: bool, dims: int) -> float:
    """The loss of a whole scan.

    Args:
        loss: Called with logits (batch, output, *spatial) and class indices (batch, 1, *spatial).
        probabilities: (output, *spatial) in [0, 1], of exclusive classes or of regions.
        reference: Class indices (*spatial) of any integer type.
        regions: Whether the outputs are regions.
        dims: Spatial axes of the network; a 3D scan of a 2D network is a batch of slices.

    Returns:
        The loss; of a large scan, the mean over slabs along its first axis, weighted by their thickness.
    """
    total, length = 0.0, reference.shape[0]
    step = max(1, _MOST_VALUES * length // probabilities.numel())
    for start in range(0, length, step):
        part, truth = probabilities[:, start : start + step].float(), reference[start : start + step]
        logits = part.logit(1e-6) if regions else part.clamp_min(1e-8).log()
        truth = truth.to(logits.device)
        sliced = truth.ndim > dims
        batch = (logits.movedim(1, 0), truth[:, None]) if sliced else (logits[None], truth[None, None])
        with torch.autocast(logits.device.type, enabled=False):
            total += float(loss(*batch)) * len(truth)
    return total / length
