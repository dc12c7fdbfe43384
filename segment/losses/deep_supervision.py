"""One loss over the outputs of several resolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss


class AnyScale(nn.Module):
    """Applies a loss to one output, or to a list of outputs of falling resolution with weights 1, 1/2, 1/4, ...

    The weights are normalised to sum 1, as nnU-Net does (Isensee et al. 2021, supplementary note 2), so that the
    figure is comparable with and without deep supervision. References are brought down by nearest neighbour.

    Args:
        loss: Called with logits (batch, class, *spatial) and class indices (batch, 1, *spatial).
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.scales = DeepSupervisionLoss(cast("_Loss", loss), weight_mode="exp")

    def forward(self, logits: Tensor | Sequence[Tensor], reference: Tensor) -> Tensor:
        """Loss of logits against class indices (batch, 1, *spatial) of any integer type."""
        # MONAI's interpolation and one-hot both want floats; its losses cast back where they need integers.
        reference = reference.float()
        if isinstance(logits, Tensor):
            return self.loss(logits.float(), reference)
        total: Tensor = self.scales([scale.float() for scale in logits], reference)
        return total / sum(self.scales.get_weights(len(logits)))
