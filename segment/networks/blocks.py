"""Blocks: the smallest parts of a network, built from MONAI's convolution, norm and activation layers.

Every block is built as ``Block(spatial_dims, in_channels, out_channels, kernel_size, stride, ...)`` and maps
(batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import ADN, Convolution
from monai.networks.layers.factories import Conv, Pool
from monai.networks.layers.utils import get_act_layer
from torch import Tensor, nn

PerAxis = int | Sequence[int]
Named = str | Sequence[Any] | None
INSTANCE: Named = ("instance", {"affine": True})
LEAKY: Named = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})


def per_axis(value: PerAxis, spatial_dims: int) -> tuple[int, ...]:
    """One integer per axis, from an integer or a sequence of ``spatial_dims`` integers."""
    axes = (value,) * spatial_dims if isinstance(value, int) else tuple(value)
    if len(axes) != spatial_dims:
        raise ValueError(f"{value!r} needs one value for each of {spatial_dims} axes")
    return axes


def named(layer: Named) -> Any:
    """MONAI's form of a layer's name: a string, None, or a tuple of the name and its arguments."""
    return layer if layer is None or isinstance(layer, str) else tuple(layer)


def activation(act: Named, channels: int) -> Any:
    """MONAI's form of an activation's name; a PReLU learns one slope per channel (He et al. 2015, eq. 1)."""
    return ("prelu", {"num_parameters": channels}) if act == "prelu" else named(act)


def norm_and_act(spatial_dims: int, channels: int, norm: Named, act: Named) -> nn.Module:
    """Norm and activation before a convolution: never in place, because other layers read the same map."""
    layers: nn.Module = ADN("NA", channels, activation(act, channels), named(norm), spatial_dims)
    for layer in layers.modules():
        if "inplace" in vars(layer):
            vars(layer)["inplace"] = False
    return layers


class ConvBlock(Convolution):
    """A convolution with norm and activation: MONAI's ``Convolution`` with nnU-Net's defaults.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Odd size, an integer or one per axis.
        stride: An integer or one per axis.
        norm: MONAI's name for the normalisation, or (name, arguments); None for none.
        act: MONAI's name for the activation, or (name, arguments); None for none.
        dropout: Probability of dropping a value.
        bias: Whether the convolution has a bias.
        ordering: What follows the convolution, of D(ropout), N(orm) and A(ctivation).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 1,
        norm: Named = INSTANCE,
        act: Named = LEAKY,
        dropout: float = 0.0,
        bias: bool = True,
        ordering: str = "DNA",
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            strides=per_axis(stride, spatial_dims),
            kernel_size=per_axis(kernel_size, spatial_dims),
            adn_ordering=ordering,
            act=activation(act, out_channels),
            norm=named(norm),
            dropout=dropout or None,
            bias=bias,
        )


class ResidualBlock(nn.Module):
    """Two convolutions (three with a bottleneck) plus a skip with average pooling and 1x1 convolution where needed.

    ResNet-D's block (He et al. 2019, arXiv 1812.01187, fig. 2c), as in nnU-Net's residual encoder.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Odd size, an integer or one per axis.
        stride: An integer or one per axis.
        bottleneck: Divides the channels of the middle convolution; 1 for the block of two convolutions.
        zero_init: Start the last norm's weights at zero, so that the block starts as its skip.
        norm: As in :class:`ConvBlock`.
        act: As in :class:`ConvBlock`.
        dropout: Probability of dropping a value after the convolution that has the stride.
        bias: Whether the convolutions outside the skip have a bias.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 1,
        bottleneck: int = 1,
        zero_init: bool = True,
        norm: Named = INSTANCE,
        act: Named = LEAKY,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        stride = per_axis(stride, spatial_dims)
        style: dict[str, Any] = {"norm": norm, "bias": bias}
        inner = max(1, out_channels // bottleneck)
        wide = bottleneck > 1
        self.convolutions = nn.Sequential(
            *([ConvBlock(spatial_dims, in_channels, inner, 1, act=act, **style)] if wide else []),
            ConvBlock(
                spatial_dims,
                inner if wide else in_channels,
                inner,
                kernel_size,
                stride,
                act=act,
                dropout=dropout,
                **style,
            ),
            ConvBlock(spatial_dims, inner, out_channels, 1 if wide else kernel_size, act=None, **style),
        )
        self.skip = nn.Sequential()
        if any(step != 1 for step in stride):
            self.skip.append(Pool[Pool.AVG, spatial_dims](stride, stride))
        if in_channels != out_channels:
            self.skip.append(ConvBlock(spatial_dims, in_channels, out_channels, 1, norm=norm, act=None, bias=False))
        self.act = get_act_layer(named(act))
        if zero_init and norm is not None:
            nn.init.zeros_(self.convolutions[-1].get_parameter("adn.N.weight"))

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride)."""
        result: Tensor = self.act(self.convolutions(image) + self.skip(image))
        return result


class PreActivationBlock(nn.Module):
    """Norm, activation, convolution, twice, added to a strided 1x1 convolution of the input.

    The block of the deep residual U-Net (Zhang et al. 2018, arXiv 1711.10684, fig. 1b), after He et al. 2016.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Odd size, an integer or one per axis.
        stride: An integer or one per axis.
        leading: Whether norm and activation come before the first convolution; False where the input is the image.
        norm: As in :class:`ConvBlock`.
        act: As in :class:`ConvBlock`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 1,
        leading: bool = True,
        norm: Named = "batch",
        act: Named = "relu",
    ) -> None:
        super().__init__()
        plain: dict[str, Any] = {"norm": None, "act": None}
        self.convolutions = nn.Sequential(
            norm_and_act(spatial_dims, in_channels, norm, act) if leading else nn.Identity(),
            ConvBlock(spatial_dims, in_channels, out_channels, kernel_size, stride, **plain),
            norm_and_act(spatial_dims, out_channels, norm, act),
            ConvBlock(spatial_dims, out_channels, out_channels, kernel_size, **plain),
        )
        self.skip = ConvBlock(spatial_dims, in_channels, out_channels, 1, stride, **plain)

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride)."""
        result: Tensor = self.convolutions(image) + self.skip(image)
        return result


class RecurrentBlock(nn.Module):
    """One convolution applied again to its own output plus the input (Liang and Hu 2015; Alom et al. 2018, sec. III).

    Args:
        spatial_dims: 2 or 3.
        channels: Input and output channels.
        kernel_size: Odd size, an integer or one per axis.
        steps: How often the convolution is applied to its own output (the papers' t).
        **style: Further arguments of :class:`ConvBlock`.
    """

    def __init__(
        self, spatial_dims: int, channels: int, kernel_size: PerAxis = 3, steps: int = 2, **style: Any
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps={steps}: a recurrent convolution is applied to its own output at least once")
        self.convolution = ConvBlock(spatial_dims, channels, channels, kernel_size, **style)
        self.steps = steps

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, channels, *spatial) to the same shape."""
        state: Tensor = self.convolution(image)
        for _ in range(self.steps):
            state = self.convolution(image + state)
        return state


class DenseLayer(nn.Sequential):
    """Norm, activation, convolution, dropout: one layer of a dense stage (Jegou et al. 2017, table 1).

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels, the growth rate.
        kernel_size: Odd size, an integer or one per axis.
        norm: As in :class:`ConvBlock`.
        act: As in :class:`ConvBlock`.
        dropout: Probability of dropping a value.
        bias: Whether the convolution has a bias.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        norm: Named = "batch",
        act: Named = "relu",
        dropout: float = 0.2,
        bias: bool = True,
    ) -> None:
        super().__init__(
            norm_and_act(spatial_dims, in_channels, norm, act),
            ConvBlock(
                spatial_dims, in_channels, out_channels, kernel_size, norm=None, act=None, dropout=dropout, bias=bias
            ),
        )


class MedNeXtBlock(nn.Module):
    """Depthwise convolution, norm, 1x1 expansion, GELU, 1x1 compression, added to a skip (Roy et al. 2023, fig. 1).

    With a stride it changes the resolution (arXiv 2303.09975, sec. 2.2): the depthwise convolution is then strided, or
    strided and transposed, and so is the 1x1 convolution of the skip.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Odd size of the depthwise convolution, an integer or one per axis.
        stride: An integer or one per axis.
        expansion: Channels between the 1x1 convolutions, as a multiple of in_channels.
        transposed: Multiply the resolution by the stride instead of dividing it.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 1,
        expansion: int = 2,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        kernel, step = per_axis(kernel_size, spatial_dims), per_axis(stride, spatial_dims)
        pointwise = Conv[Conv.CONV, spatial_dims]
        spatial = Conv[Conv.CONVTRANS if transposed else Conv.CONV, spatial_dims]
        self.depthwise = spatial(
            in_channels, in_channels, kernel, step, padding=[k // 2 for k in kernel], groups=in_channels
        )
        self.norm = nn.GroupNorm(in_channels, in_channels)
        self.expand = pointwise(in_channels, expansion * in_channels, 1)
        self.act = nn.GELU()
        self.compress = pointwise(expansion * in_channels, out_channels, 1)
        changes = in_channels != out_channels or any(s != 1 for s in step)
        self.skip = spatial(in_channels, out_channels, 1, step) if changes else nn.Identity()
        # The output of an odd transposed kernel is stride - 1 voxels short: the authors pad it at the front.
        self.missing = [n for s in reversed(step) for n in (s - 1, 0)] if transposed and max(step) > 1 else []

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride); * stride if transposed."""
        hidden = self.compress(self.act(self.expand(self.norm(self.depthwise(image)))))
        result: Tensor = hidden + self.skip(image)
        return torch.nn.functional.pad(result, self.missing) if self.missing else result
