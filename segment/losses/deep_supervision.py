"""One loss over outputs at several resolutions, for labels or regions, ignoring voxels that are not annotated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from segment.losses.cross_entropy import CrossEntropyLoss
from segment.losses.dice_ce import DiceCELoss


class AnyScale(nn.Module):
    """Applies a loss to one output, or to a list of outputs of decreasing resolution with weights 1, 1/2, 1/4, ...

    The weights are normalised to sum 1, as in nnU-Net (Isensee et al. 2021, supplementary note 2), so that the
    loss is comparable with and without deep supervision. References are downsampled by nearest neighbour.

    Args:
        loss: Called with logits (batch, output, *spatial) and float class indices (batch, 1, *spatial); with regions
            with a float target (batch, output, *spatial) of 0 and 1. Where voxels are ignored, our own losses get a
            third argument, which of them count. Any other gets the annotated voxels of the whole batch flattened,
            (1, output, n), or those of each sample if its attribute ``batch`` is False (Dice per sample); samples
            without an annotated voxel are then left out of the mean. To select them waits for the device.
        regions: For each output, the class indices whose union it is; empty where the outputs are the classes.
        ignore: Class index of voxels to ignore; None for none.
    """

    members: Tensor

    def __init__(self, loss: nn.Module, regions: Sequence[Sequence[int]] = (), ignore: int | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.ignore = ignore
        members = torch.zeros(len(regions), 256)
        for row, classes in zip(members, regions, strict=True):
            row[list(classes)] = 1
        self.register_buffer("members", members, persistent=False)

    def forward(self, logits: Tensor | Sequence[Tensor], reference: Tensor) -> Tensor:
        """Compute the loss of logits against class indices (batch, 1, *spatial) of any integer type."""
        if isinstance(logits, Tensor):
            return self._one(logits, reference)
        weights = [0.5**scale for scale in range(len(logits))]
        # Nearest-neighbour interpolation supports only floats and bytes.
        finest = reference if reference.dtype == torch.uint8 else reference.float()
        losses = [
            weight * self._one(scale, functional.interpolate(finest, scale.shape[2:], mode="nearest-exact"))
            for weight, scale in zip(weights, logits, strict=True)
        ]
        return torch.stack(losses).sum() / sum(weights)

    def _one(self, logits: Tensor, reference: Tensor) -> Tensor:
        logits = logits.float()
        if self.ignore is None:
            return self._annotated(logits, reference)
        if isinstance(self.loss, DiceCELoss | CrossEntropyLoss):
            known = reference != self.ignore
            return self._annotated(logits, reference * known, known)
        known = reference[:, 0] != self.ignore
        # A loss per sample stays one: its samples may have different numbers of annotated voxels.
        each = [slice(n, n + 1) for n in range(len(logits))] if not getattr(self.loss, "batch", True) else [slice(None)]
        losses = [
            self._annotated(
                logits[part].movedim(1, -1)[known[part]].T[None], reference[part, 0][known[part]][None, None]
            )
            for part in each
            if known[part].any()
        ]
        return torch.stack(losses).mean() if losses else logits.sum() * 0.0

    def _annotated(self, logits: Tensor, reference: Tensor, *known: Tensor) -> Tensor:
        if not len(self.members):
            return self.loss(logits, reference.float(), *known)
        return self.loss(logits, self.members.T[reference[:, 0].long()].movedim(-1, 1), *known)
