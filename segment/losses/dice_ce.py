"""nnU-Net's sum of Dice and cross-entropy, for labels and for regions."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from monai.losses import DiceLoss
from torch import Tensor, nn

from segment.losses.cross_entropy import CrossEntropyLoss


class DiceCELoss(nn.Module):
    """Soft Dice plus cross-entropy, each with weight 1 (Isensee et al. 2021).

    Against class indices: softmax, Dice without the background, cross-entropy over the classes. Against regions (a
    target of 0 and 1 for every output, which may overlap): sigmoid, Dice over all of them, binary cross-entropy.

    Args:
        batch: Whether Dice is computed over the whole batch at once instead of per sample.
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
        dice = self.region_dice if target.shape[1] == logits.shape[1] else self.dice
        both: Tensor = dice(logits, target) + self.cross_entropy(logits, target)
        return both
