"""Stages: stacks of blocks that an encoder or a decoder runs at one resolution.

Every stage is built as ``Stage(spatial_dims, in_channels, out_channels, depth=, kernel_size=, stride=, ...)`` and maps
(batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride), so that they are interchangeable.
Where the output has other than the requested channels, ``stage.out_channels`` is their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from monai.networks.layers.utils import get_act_layer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from segment.networks.blocks import ConvBlock, DenseLayer, Named, PerAxis, RecurrentBlock, activation, per_axis


class Stage(nn.Sequential):
    """Blocks one after another, whose activations can be recomputed in the backward pass instead of stored.

    Attributes:
        checkpointing: Save memory at the cost of time while training (Chen et al. 2016, arXiv 1604.06174).
    """

    checkpointing = False

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride)."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(
                self.run, image, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_statistics(self))
            )
            return recomputed
        return self.run(image)

    def run(self, image: Tensor) -> Tensor:
        """Run the blocks in order."""
        result: Tensor = super().forward(image)
        return result


@contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keep batch norms from updating their running statistics: the first pass has already counted this batch."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


def _check_unit_stride(stride: PerAxis, spatial_dims: int) -> None:
    if per_axis(stride, spatial_dims) != (1,) * spatial_dims:
        raise ValueError(f"this stage cannot change the resolution (stride {stride}); give the encoder a 'down'")


class BlockStage(Stage):
    """Blocks of one kind: by default convolutions, as in a U-Net (Ronneberger et al. 2015, fig. 1).

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels.
        depth: Number of blocks.
        kernel_size: Odd size, an integer or one per axis.
        stride: Stride of the first block.
        half_first: The first of several blocks has half the output channels (3D U-Net: doubled before pooling).
        block: Factory of a block; see :mod:`segment.networks.blocks`.
        **more: Further arguments of the block.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        depth: int = 2,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 1,
        half_first: bool = False,
        block: Callable[..., nn.Module] = ConvBlock,
        **more: Any,
    ) -> None:
        channels = [in_channels] + [out_channels] * depth
        if half_first and depth > 1:
            channels[1] = out_channels // 2
        super().__init__(
            *(
                block(spatial_dims, c, d, kernel_size, 1 if i else stride, **more)
                for i, (c, d) in enumerate(pairwise(channels))
            )
        )


class RecurrentResidualStage(Stage):
    """Recurrent convolutions after a 1x1 convolution, plus a skip (Alom et al. 2018, arXiv 1802.06955, fig. 4b and d).

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels.
        depth: Number of recurrent convolutions.
        kernel_size: Odd size, an integer or one per axis.
        stride: Stride of the 1x1 convolution.
        residual: Whether there is the skip; False: a recurrent stage.
        **block: steps, norm, act and bias of :class:`RecurrentBlock`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        depth: int = 2,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 1,
        residual: bool = True,
        **block: Any,
    ) -> None:
        joined = Residual if residual else nn.Sequential
        super().__init__(
            ConvBlock(spatial_dims, in_channels, out_channels, 1, stride, norm=None, act=None),
            joined(*(RecurrentBlock(spatial_dims, out_channels, kernel_size, **block) for _ in range(depth))),
        )


class Residual(nn.Sequential):
    """Runs its modules in order and adds the input."""

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, channels, *spatial) to the same shape."""
        result: Tensor = image + super().forward(image)
        return result


class DenseStage(Stage):
    """Layers that each read all previous maps (Huang et al. 2017; as a U-Net: Jegou et al. 2017, arXiv 1611.09326).

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Either in_channels + depth * growth (the input is passed on with the new maps) or depth * growth
            (only the new maps, as in a decoder).
        depth: Number of layers.
        kernel_size: Odd size, an integer or one per axis.
        stride: Must be 1; a dense stage does not change the resolution.
        growth: Channels that each layer adds.
        **layer: norm, act and dropout of :class:`DenseLayer`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        depth: int = 4,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 1,
        growth: int = 16,
        **layer: Any,
    ) -> None:
        new = depth * growth
        if out_channels not in (new, in_channels + new):
            raise ValueError(
                f"a dense stage of {depth} layers of {growth} has {in_channels + new} output channels, or {new} "
                f"without its {in_channels} inputs, not {out_channels}"
            )
        _check_unit_stride(stride, spatial_dims)
        super().__init__(
            *(DenseLayer(spatial_dims, in_channels + i * growth, growth, kernel_size, **layer) for i in range(depth))
        )
        # Input channels that the output leaves out.
        self.first = 0 if out_channels == in_channels + new else in_channels

    def run(self, image: Tensor) -> Tensor:
        """Run the layers in order, each on all previous maps."""
        for layer in self:
            image = torch.cat((image, layer(image)), dim=1)
        return image[:, self.first :]


class VNetStage(Stage):
    """Convolutions added to the stage's input, then the activation (V-Net: Milletari et al. 2016, sec. 2, fig. 2).

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels; repeated or cut to out_channels for the sum.
        out_channels: Output channels.
        depth: Number of convolutions.
        kernel_size: Odd size, an integer or one per axis.
        stride: Must be 1.
        act: As in :class:`ConvBlock`; after each convolution; for the last one, after the sum.
        **block: norm, dropout and bias of :class:`ConvBlock`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        depth: int = 2,
        kernel_size: PerAxis = 5,
        stride: PerAxis = 1,
        act: Named = "prelu",
        **block: Any,
    ) -> None:
        _check_unit_stride(stride, spatial_dims)
        channels = [in_channels] + [out_channels] * depth
        acts = [act] * (depth - 1) + [None]
        super().__init__(
            *(
                ConvBlock(spatial_dims, c, d, kernel_size, act=a, **block)
                for (c, d), a in zip(pairwise(channels), acts, strict=True)
            )
        )
        self.channels = out_channels
        self.last = get_act_layer(activation(act, out_channels))

    def run(self, image: Tensor) -> Tensor:
        """Run the convolutions, the sum and the activation."""
        repeated = torch.cat([image] * -(-self.channels // image.shape[1]), dim=1)[:, : self.channels]
        hidden = image
        for block in list(self)[:-1]:
            hidden = block(hidden)
        result: Tensor = self.last(hidden + repeated)
        return result
