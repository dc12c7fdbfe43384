"""A network of the user's with a layer that its outputs do not depend on."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class UnusedLayer(nn.Module):
    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, **others: Any) -> None:
        super().__init__()
        kind = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.used = kind(in_channels, out_channels, 3, padding=1)
        self.unused = kind(in_channels, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.used(image)
        return found
