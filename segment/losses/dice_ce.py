"""nnU-Net's sum of Dice and cross-entropy, for labels and for regions."""

from __future__ import annotations

import functools

from monai.losses import DiceLoss
from torch import Tensor, nn


class DiceCELoss(nn.Module):
    """Soft Dice plus cross-entropy, each with weight 1 (Isensee et al. 2021).

    Against class indices: softmax, Dice without the background, cross-entropy over the classes. Against regions (a
    target of 0 and 1 for every output, which may overlap): sigmoid, Dice over all of them, binary cross-entropy.

    Args:
        batch: Whether Dice is computed over the whole batch at once instead of per sample.
        smooth: Added to numerator and denominator, so that absent structures cause no division by zero.
    """

    def __init__(self, batch: bool = True, smooth: float = 1e-5) -> None:
        super().__init__()
        dice = functools.partial(DiceLoss, batch=batch, smooth_nr=smooth, smooth_dr=smooth)
        self.dice = dice(include_background=False, to_onehot_y=True, softmax=True)
        self.region_dice = dice(sigmoid=True)
        self.cross_entropy = nn.CrossEntropyLoss()
        self.binary_cross_entropy = nn.BCEWithLogitsLoss()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the sum of both losses.

        Args:
            logits: (batch, output, *spatial) float.
            target: (batch, 1, *spatial) float class indices, or (batch, output, *spatial) float regions.
        """
        if target.shape[1] == logits.shape[1]:
            both: Tensor = self.region_dice(logits, target) + self.binary_cross_entropy(logits, target)
        else:
            both = self.dice(logits, target) + self.cross_entropy(logits, target[:, 0].long())
        return both
