"""Cross-entropy for labels and for regions, with class weights and label smoothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossEntropyLoss(nn.Module):
    """Cross-entropy over mutually exclusive classes, or binary cross-entropy over regions that may overlap.

    Args:
        class_weights: Weight of each output: of every class, background first, or of every region. The loss is a
            weighted mean, so that only their ratios matter; None weighs all the same.
        label_smoothing: Share of the target, in [0, 1), that is spread evenly over all classes, or over inside and
            outside of a region (Szegedy et al. 2016).

    Raises:
        ValueError: A weight is negative or not finite, all are 0, or the smoothing is out of range.
    """

    weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if class_weights is not None:
            valid = all(isinstance(weight, int | float) and 0 <= weight < math.inf for weight in class_weights)
            if not valid or not sum(class_weights):
                raise ValueError(f"class_weights={class_weights}: give numbers of at least 0, not all of them 0.")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: give a number from 0 to below 1, such as 0.1.")
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the mean over voxels.

        Args:
            logits: (batch, output, *spatial) float.
            target: (batch, 1, *spatial) float class indices, or (batch, output, *spatial) float regions.
        """
        if target.shape[1] == logits.shape[1]:
            return self._regions(logits, target)
        return functional.cross_entropy(logits, target[:, 0].long(), self.weights, label_smoothing=self.label_smoothing)

    def _regions(self, logits: Tensor, target: Tensor) -> Tensor:
        smooth = target * (1 - self.label_smoothing) + self.label_smoothing / 2 if self.label_smoothing else target
        if self.weights is None:
            return functional.binary_cross_entropy_with_logits(logits, smooth)
        losses = functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        each = losses.movedim(1, 0).flatten(1).mean(1)
        return (self.weights * each).sum() / self.weights.sum()
