"""nnU-Net's sum of Dice and cross-entropy, for labels and for regions."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from monai.networks import one_hot
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from segment.losses.cross_entropy import CrossEntropyLoss


class DiceCELoss(nn.Module):
    """Soft Dice plus cross-entropy, each with weight 1 (Isensee et al. 2021).

    Against class indices: softmax, Dice without the background, cross-entropy over the classes. Against regions (a
    target of 0 and 1 for every output, which may overlap): sigmoid, Dice over all of them, binary cross-entropy.

    Attributes:
        together: Whether Dice is computed over all processes; False where they may call the loss a different number of
            times.

    Args:
        batch: Whether Dice is computed over the whole batch at once instead of per sample. In a training of several
            processes the batch is that of all of them, as in nnU-Net.
        smooth: Added to numerator and denominator, so that absent structures cause no division by zero.
        class_weights: See `segment.losses.cross_entropy.CrossEntropyLoss`. The cross-entropy alone is weighted, as Dice
            gives every structure the same weight whatever its size.
        label_smoothing: Of the cross-entropy alone; see there.
    """

    def __init__(
        self,
        batch: bool = True,
        smooth: float = 1e-5,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.batch = batch
        self.smooth = smooth
        self.together = True
        dice = functools.partial(DiceLoss, batch=batch, smooth_nr=smooth, smooth_dr=smooth)
        self.dice = dice(include_background=False, to_onehot_y=True, softmax=True)
        self.region_dice = dice(sigmoid=True)
        self.cross_entropy = CrossEntropyLoss(class_weights, label_smoothing)
        self.class_weights = class_weights

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the sum of both losses.

        Args:
            logits: (batch, output, *spatial) float.
            target: (batch, 1, *spatial) float class indices, or (batch, output, *spatial) float regions.
        """
        regions = target.shape[1] == logits.shape[1]
        # Not in a validation, whose scans the processes have in different numbers.
        if self.batch and self.together and torch.is_grad_enabled() and _processes() > 1:
            dice = self._of_all_processes(logits, target, regions)
        else:
            dice = (self.region_dice if regions else self.dice)(logits, target)
        both: Tensor = dice + self.cross_entropy(logits, target)
        return both

    def _of_all_processes(self, logits: Tensor, target: Tensor, regions: bool) -> Tensor:
        """MONAI's Dice loss over the batches of all processes: their sums are added before they are divided."""
        if regions:
            output = logits.sigmoid()
        else:
            output = logits.softmax(1)[:, 1:]
            target = one_hot(target, num_classes=logits.shape[1])[:, 1:]
        sums = [part.transpose(0, 1).flatten(1).sum(1) for part in (output * target, output, target)]
        # Its gradient is summed over the processes, of which the trainer then takes the mean.
        shared, predicted, reference = all_reduce(torch.stack(sums)).unbind()
        return (1 - (2 * shared + self.smooth) / (predicted + reference + self.smooth)).mean()


def _processes() -> int:
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
