"""The U-Net in 2D and 3D, composed from MONAI's blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from segment.networks.padding import crop_to, pad_to_divisor

PerAxis = int | Sequence[int]


def per_axis(value: PerAxis, spatial_dims: int) -> tuple[int, ...]:
    """One integer an axis from an integer or a sequence of ``spatial_dims`` integers."""
    axes = (value,) * spatial_dims if isinstance(value, int) else tuple(value)
    if len(axes) != spatial_dims:
        raise ValueError(f"{value!r} needs one value for each of {spatial_dims} axes")
    return axes


class UNet(nn.Module):
    """Encoder and decoder of plain convolutions, joined by concatenation (Ronneberger et al. 2015; Cicek et al. 2016).

    With the defaults it is nnU-Net's plain U-Net (Isensee et al. 2021): strided convolutions down, transposed
    convolutions up, instance normalisation and leaky ReLU. Each convolution is MONAI's ``Convolution`` block.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        out_channels: Classes, background included.
        features: Channels of each stage, finest first; its length is the number of stages.
        strides: Step into each stage, an integer or one an axis; the first is 1. None: 1, then 2 everywhere.
        kernel_sizes: Odd convolution size of each stage, an integer or one an axis. None: 3 everywhere.
        convolutions: Convolutions in each encoder stage (and bottleneck).
        decoder_convolutions: Convolutions in each decoder stage.
        deep_supervision: How many coarser decoder stages also give logits while training, at their own resolution.
        norm: MONAI's name of the normalisation, or (name, arguments).
        act: MONAI's name of the activation, or (name, arguments).
        dropout: Probability of dropping a channel after each convolution.

    Raises:
        ValueError: When the lists differ in length or a value has the wrong number of axes.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        strides: Sequence[PerAxis] | None = None,
        kernel_sizes: Sequence[PerAxis] | None = None,
        convolutions: int = 2,
        decoder_convolutions: int = 2,
        deep_supervision: int = 0,
        norm: str | tuple | Sequence = ("instance", {"affine": True}),
        act: str | tuple | Sequence = ("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        stages = len(features)
        strides = [1] + [2] * (stages - 1) if strides is None else strides
        kernel_sizes = [3] * stages if kernel_sizes is None else kernel_sizes
        if not len(strides) == len(kernel_sizes) == stages:
            raise ValueError(f"{stages} features, {len(strides)} strides and {len(kernel_sizes)} kernel_sizes differ")
        steps = [per_axis(s, spatial_dims) for s in strides]
        if steps[0] != (1,) * spatial_dims:
            raise ValueError(f"strides[0]={strides[0]} must be 1: the logits have the image's resolution")
        if not 0 <= deep_supervision <= max(0, stages - 2):
            raise ValueError(f"deep_supervision={deep_supervision} must lie between 0 and {max(0, stages - 2)}")
        kernels = [per_axis(k, spatial_dims) for k in kernel_sizes]
        # Voxels of the image in one voxel of each stage.
        self.strides = np.cumprod(steps, axis=0).tolist()
        self.divisor = tuple(self.strides[-1])
        style: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "adn_ordering": "DNA",
            "norm": norm if isinstance(norm, str) else tuple(norm),
            "act": act if isinstance(act, str) else tuple(act),
            "dropout": dropout or None,
            "bias": True,
        }

        def stage(channels: Sequence[int], kernel: tuple[int, ...], step: tuple[int, ...] | int = 1) -> nn.Sequential:
            parts = [
                Convolution(in_channels=c, out_channels=d, kernel_size=kernel, strides=step if i == 0 else 1, **style)
                for i, (c, d) in enumerate(pairwise(channels))
            ]
            return nn.Sequential(*parts)

        inputs = [in_channels, *features]
        self.encoder = nn.ModuleList(
            stage([inputs[i]] + [features[i]] * convolutions, kernels[i], steps[i]) for i in range(stages)
        )
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        transposed: Any = nn.ConvTranspose3d if spatial_dims == 3 else nn.ConvTranspose2d
        for i in reversed(range(stages - 1)):
            step = steps[i + 1]
            self.up.append(transposed(features[i + 1], features[i], kernel_size=step, stride=step))
            self.decoder.append(stage([2 * features[i]] + [features[i]] * decoder_convolutions, kernels[i]))
        pointwise = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.heads = nn.ModuleList(
            pointwise(features[i], out_channels, kernel_size=1) for i in range(deep_supervision + 1)
        )

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits of every voxel.

        Args:
            image: (batch, in_channels, *spatial), any spatial size.

        Returns:
            Logits (batch, out_channels, *spatial). While training with deep supervision a list of logits, finest
            first, the coarser ones at the resolution of their decoder stage, cut to the part that lies on the image.
        """
        shape = image.shape[2:]
        hidden = pad_to_divisor(image, self.divisor)
        skips = []
        for stage in self.encoder:
            hidden = stage(hidden)
            skips.append(hidden)
        skips.pop()
        coarse = []
        for up, stage in zip(self.up, self.decoder, strict=True):
            hidden = stage(torch.cat((up(hidden), skips.pop()), dim=1))
            coarse.append(hidden)
        finest = crop_to(self.heads[0](hidden), shape)
        if not self.training or len(self.heads) == 1:
            return finest
        lower = reversed(coarse[-len(self.heads) : -1])
        sizes = [[-(-size // step) for size, step in zip(shape, strides, strict=True)] for strides in self.strides[1:]]
        return [finest, *(crop_to(head(h), size) for head, h, size in zip(self.heads[1:], lower, sizes, strict=False))]
