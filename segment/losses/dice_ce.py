"""nnU-Net's sum of Dice and cross-entropy, for labels and for regions."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from monai.networks import one_hot
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from segment.losses.cross_entropy import LEAST, CrossEntropyLoss


class DiceCELoss(nn.Module):
    """Soft Dice plus cross-entropy, each with weight 1 (Isensee et al. 2021).

    Against class indices: softmax, Dice without the background, cross-entropy over the classes. Against regions (a
    target of 0 and 1 for every output, which may overlap): sigmoid, Dice over all of them, binary cross-entropy.

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
        dice = functools.partial(DiceLoss, batch=batch, smooth_nr=smooth, smooth_dr=smooth)
        self.dice = dice(include_background=False, to_onehot_y=True, softmax=True)
        self.region_dice = dice(sigmoid=True)
        self.cross_entropy = CrossEntropyLoss(class_weights, label_smoothing)
        self.class_weights = class_weights

    def forward(self, logits: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
        """Compute the sum of both losses.

        Args:
            logits: (batch, output, *spatial) float.
            target: (batch, 1, *spatial) float class indices, or (batch, output, *spatial) float regions.
            known: (batch, 1, *spatial) bool, the voxels that count; None: all of them. The loss of none is 0; without
                `batch`, samples that have none are left out of the mean.
        """
        # Not in a validation, whose scans the processes have in different numbers.
        shared = self.batch and torch.is_grad_enabled() and _processes() > 1
        if known is None and not shared:
            regions = target.shape[1] == logits.shape[1]
            dice = (self.region_dice if regions else self.dice)(logits, target)
            both: Tensor = dice + self.cross_entropy(logits, target)
            return both
        each = self._dice(logits, target, known, shared)
        if self.batch or known is None:
            return each.mean() + self.cross_entropy(logits, target, known)
        total, weight = self.cross_entropy.of_samples(logits, target, known)
        counted = known.flatten(1).any(1)
        return ((each + total / weight.clamp_min(LEAST)) * counted).sum() / counted.sum().clamp_min(1)

    def _dice(self, logits: Tensor, target: Tensor, known: Tensor | None, shared: bool) -> Tensor:
        """Dice loss over the voxels that count: of the batch, (1,), of all processes if shared; or per sample.

        It is MONAI's, computed from sums, which can be added over processes before they are divided.
        """
        if target.shape[1] == logits.shape[1]:
            output = logits.sigmoid()
        else:
            output = logits.softmax(1)[:, 1:]
            target = one_hot(target, num_classes=logits.shape[1])[:, 1:]
        if known is not None:
            output, target = output * known, target * known
        sums = torch.stack([part.flatten(2).sum(2) for part in (output * target, output, target)])
        if self.batch:
            sums = sums.sum(1, keepdim=True)
        if shared:  # its gradient is summed over the processes, of which the trainer then takes the mean
            sums = all_reduce(sums)
        both, predicted, reference = sums.unbind()
        return (1 - (2 * both + self.smooth) / (predicted + reference + self.smooth)).mean(1)


def _processes() -> int:
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
