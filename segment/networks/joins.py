"""Joins: combine a skip connection with the upsampled map.

Every join is built as ``Join(spatial_dims, skip_channels, up_channels, below_channels, ...)``, has the attribute
``out_channels``, and is called with the encoder's map (batch, skip_channels, *spatial), the upsampled map
(batch, up_channels, *spatial) and the map before upsampling (batch, below_channels, *spatial / step).
"""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from segment.networks.blocks import ConvBlock


class Concatenate(nn.Module):
    """Concatenates the channels of both maps, the upsampled ones first (Ronneberger et al. 2015)."""

    def __init__(self, spatial_dims: int, skip_channels: int, up_channels: int, below_channels: int) -> None:
        super().__init__()
        self.out_channels = up_channels + skip_channels

    def forward(self, skip: Tensor, up: Tensor, below: Tensor) -> Tensor:
        """Map the three to (batch, up_channels + skip_channels, *spatial)."""
        return torch.cat((up, skip), dim=1)


class Add(nn.Module):
    """Sums both maps, the skip after a 1x1 convolution where its channels differ (MedNeXt, LinkNet, DenseUNet)."""

    def __init__(self, spatial_dims: int, skip_channels: int, up_channels: int, below_channels: int) -> None:
        super().__init__()
        same = skip_channels == up_channels
        self.project = nn.Identity() if same else Conv[Conv.CONV, spatial_dims](skip_channels, up_channels, 1)
        self.out_channels = up_channels

    def forward(self, skip: Tensor, up: Tensor, below: Tensor) -> Tensor:
        """Map the three to (batch, up_channels, *spatial)."""
        result: Tensor = up + self.project(skip)
        return result


class AttentionGate(nn.Module):
    """Grid attention on the skip, then concatenation (Attention U-Net: Oktay et al. 2018, arXiv 1804.03999, sec. 2.2).

    Each gate: sigmoid(psi(relu(theta(skip) + phi(below)))) at half the skip's resolution, interpolated back onto it,
    times the skip, then a 1x1 convolution with batch norm; one more convolution fuses the gates.

    Args:
        spatial_dims: 2 or 3.
        skip_channels: Channels of the skip and of the gates' inner maps.
        up_channels: Channels of the upsampled map.
        below_channels: Channels of the gating signal.
        gates: Number of gates.
    """

    def __init__(
        self, spatial_dims: int, skip_channels: int, up_channels: int, below_channels: int, gates: int = 1
    ) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        channels = skip_channels
        self.theta = nn.ModuleList(conv(channels, channels, 2, 2, bias=False) for _ in range(gates))
        self.phi = nn.ModuleList(conv(below_channels, channels, 1) for _ in range(gates))
        self.psi = nn.ModuleList(conv(channels, 1, 1) for _ in range(gates))
        self.project = nn.ModuleList(
            ConvBlock(spatial_dims, channels, channels, 1, norm="batch", act=None) for _ in range(gates)
        )
        self.fuse = ConvBlock(spatial_dims, gates * channels, channels, 1, norm="batch", act="relu")
        self.mode = {2: "bilinear", 3: "trilinear"}[spatial_dims]
        self.out_channels = up_channels + channels

    def forward(self, skip: Tensor, up: Tensor, below: Tensor) -> Tensor:
        """Map the three to (batch, up_channels + skip_channels, *spatial); below has any coarser resolution."""
        gated = []
        for theta, phi, psi, project in zip(self.theta, self.phi, self.psi, self.project, strict=True):
            inner = theta(skip)
            signal = functional.interpolate(phi(below), inner.shape[2:], mode=self.mode)
            attention = torch.sigmoid(psi(functional.relu(inner + signal)))
            gated.append(project(skip * functional.interpolate(attention, skip.shape[2:], mode=self.mode)))
        return torch.cat((up, self.fuse(torch.cat(gated, dim=1))), dim=1)
