"""Downsampling and upsampling layers.

Every layer is built as ``Layer(spatial_dims, in_channels, out_channels, kernel_size, stride, ...)`` and maps
(batch, in_channels, *spatial) to (batch, out_channels, *spatial / stride) or, when upsampling, to *spatial * stride.
Where the output has other than the requested channels, ``layer.out_channels`` is their number.
"""

from __future__ import annotations

from monai.networks.blocks import ADN, Convolution
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from segment.networks.blocks import (
    INSTANCE,
    LEAKY,
    ConvBlock,
    MedNeXtBlock,
    Named,
    PerAxis,
    activation,
    named,
    norm_and_act,
    per_axis,
)


class MaxPool(nn.Sequential):
    """Largest value of each window of the stride's size; keeps the channels."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, kernel_size: PerAxis = 3, stride: PerAxis = 2
    ) -> None:
        step = per_axis(stride, spatial_dims)
        super().__init__(Pool[Pool.MAX, spatial_dims](step, step))
        self.out_channels = in_channels


class StridedConv(Convolution):
    """Convolution whose kernel equals its stride, then norm and activation (V-Net: Milletari et al. 2016, sec. 2)."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 2,
        norm: Named = INSTANCE,
        act: Named = LEAKY,
    ) -> None:
        step = per_axis(stride, spatial_dims)
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            step,
            step,
            "NA",
            activation(act, out_channels),
            named(norm),
            padding=0,
        )


class TransitionDown(nn.Sequential):
    """Norm, activation, 1x1 convolution, dropout, max pool (Jegou et al. 2017, table 1); keeps the channels."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 2,
        norm: Named = "batch",
        act: Named = "relu",
        dropout: float = 0.2,
    ) -> None:
        step = per_axis(stride, spatial_dims)
        super().__init__(
            norm_and_act(spatial_dims, in_channels, norm, act),
            ConvBlock(spatial_dims, in_channels, in_channels, 1, norm=None, act=None, dropout=dropout),
            Pool[Pool.MAX, spatial_dims](step, step),
        )
        self.out_channels = in_channels


class TransposedConv(nn.Sequential):
    """Transposed convolution, then norm and activation where named.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Not used; see ``size``.
        stride: An integer or one per axis.
        size: Odd kernel size; None for a kernel equal to the stride.
        norm: As in :class:`ConvBlock`.
        act: As in :class:`ConvBlock`.
        bias: Whether the convolution has a bias.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 2,
        size: int | None = None,
        norm: Named = None,
        act: Named = None,
        bias: bool = True,
    ) -> None:
        step = per_axis(stride, spatial_dims)
        kernel = step if size is None else (size,) * spatial_dims
        padding = tuple((k - 1) // 2 if size else 0 for k in kernel)
        missing = tuple(s + 2 * p - k for s, p, k in zip(step, padding, kernel, strict=True))
        layers: list[nn.Module] = [
            Conv[Conv.CONVTRANS, spatial_dims](
                in_channels, out_channels, kernel, step, padding=padding, output_padding=missing, bias=bias
            )
        ]
        if norm is not None or act is not None:
            layers.append(ADN("NA", out_channels, activation(act, out_channels), named(norm), spatial_dims))
        super().__init__(*layers)


class Interpolation(nn.Module):
    """Interpolation, then a convolution with norm and activation where ``size`` is given.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Input channels.
        out_channels: Output channels; without a convolution, the input channels.
        kernel_size: Not used; see ``size``.
        stride: An integer or one per axis.
        size: Odd size of the convolution's kernel; None for no convolution.
        mode: ``linear`` (bilinear, trilinear) or ``nearest``.
        align_corners: For linear interpolation; see torch.nn.functional.interpolate.
        norm: As in :class:`ConvBlock`.
        act: As in :class:`ConvBlock`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 2,
        size: int | None = None,
        mode: str = "linear",
        align_corners: bool = False,
        norm: Named = INSTANCE,
        act: Named = LEAKY,
    ) -> None:
        super().__init__()
        modes = {"nearest": "nearest", "linear": {2: "bilinear", 3: "trilinear"}[spatial_dims]}
        if mode not in modes:
            raise ValueError(f"mode={mode!r} must be one of {', '.join(modes)}")
        self.mode = modes[mode]
        self.align_corners = align_corners if mode == "linear" else None
        self.stride = per_axis(stride, spatial_dims)
        self.out_channels = in_channels if size is None else out_channels
        self.convolution = (
            nn.Identity()
            if size is None
            else ConvBlock(spatial_dims, in_channels, out_channels, size, norm=norm, act=act)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, in_channels, *spatial) to (batch, out_channels, *spatial * stride)."""
        size = [n * step for n, step in zip(image.shape[2:], self.stride, strict=True)]
        larger = nn.functional.interpolate(image, size, mode=self.mode, align_corners=self.align_corners)
        result: Tensor = self.convolution(larger)
        return result


class MedNeXtUp(MedNeXtBlock):
    """A MedNeXt block that doubles the resolution (Roy et al. 2023, sec. 2.2)."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 2,
        expansion: int = 2,
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, kernel_size, stride, expansion, transposed=True)


class LinkNetUp(nn.Sequential):
    """1x1 convolution to a quarter of the channels, transposed convolution, 1x1 convolution (Chaurasia 2017)."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 2,
        norm: Named = "batch",
        act: Named = "relu",
    ) -> None:
        quarter = max(1, in_channels // 4)
        super().__init__(
            ConvBlock(spatial_dims, in_channels, quarter, 1, norm=norm, act=act),
            TransposedConv(spatial_dims, quarter, quarter, stride=stride, size=3, norm=norm, act=act),
            ConvBlock(spatial_dims, quarter, out_channels, 1, norm=norm, act=act),
        )


def channels_of(module: nn.Module, default: int) -> int:
    """Output channels of a module: its ``out_channels`` if it has that attribute, otherwise the default."""
    return int(getattr(module, "out_channels", default))
