"""Cross-entropy for labels and for regions, with class weights and label smoothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST = 1e-20  # weight of no voxel, whose loss of 0 is divided by it


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

    def forward(self, logits: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
        """Compute the mean over voxels.

        Args:
            logits: (batch, output, *spatial) float.
            target: (batch, 1, *spatial) float class indices, or (batch, output, *spatial) float regions.
            known: (batch, 1, *spatial) bool, the voxels that count; None: all of them.
        """
        if known is not None:
            total, weight = (part.sum() for part in self.of_samples(logits, target, known))
            return total / weight.clamp_min(LEAST)
        if target.shape[1] == logits.shape[1]:
            return self._regions(logits, target)
        return functional.cross_entropy(logits, target[:, 0].long(), self.weights, label_smoothing=self.label_smoothing)

    def of_samples(self, logits: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted sum over the voxels that count of each sample, and the sum of their weights, both (batch,).

        Args:
            logits: As for a call.
            target: As for a call.
            known: As for a call.
        """
        if target.shape[1] == logits.shape[1]:
            smooth = self._smooth(target)
            losses = functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
            weights = torch.ones_like(losses) if self.weights is None else _along_outputs(self.weights, losses)
            weights = weights * known
            return (losses * weights).flatten(1).sum(1), weights.expand_as(losses).flatten(1).sum(1)
        classes, counts = target[:, 0].long(), known[:, 0]
        losses = functional.cross_entropy(
            logits, classes, self.weights, reduction="none", label_smoothing=self.label_smoothing
        )
        weights = counts.to(losses.dtype) if self.weights is None else self.weights[classes] * counts
        return (losses * counts).flatten(1).sum(1), weights.flatten(1).sum(1)

    def _smooth(self, target: Tensor) -> Tensor:
        return target * (1 - self.label_smoothing) + self.label_smoothing / 2 if self.label_smoothing else target

    def _regions(self, logits: Tensor, target: Tensor) -> Tensor:
        smooth = self._smooth(target)
        if self.weights is None:
            return functional.binary_cross_entropy_with_logits(logits, smooth)
        losses = functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
        each = losses.movedim(1, 0).flatten(1).mean(1)
        return (self.weights * each).sum() / self.weights.sum()


def _along_outputs(weights: Tensor, losses: Tensor) -> Tensor:
    """One weight per output, broadcastable to (batch, output, *spatial)."""
    return weights.view(1, -1, *[1] * (losses.ndim - 2))
