"""The decoder of UNETR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.blocks import UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn

from segment.networks.blocks import Named, named


class UNETRDecoder(nn.Module):
    """Upsamples each map of a vision transformer to its level and joins the levels as a U-Net does.

    Hatamizadeh et al. 2022, fig. 2, arXiv 2103.10504, built from MONAI's blocks.

    Args:
        spatial_dims: 2 or 3.
        encoder: Returns the image, then one map of patches for each level, e.g. ``ViT``.
        features: Channels of each output, finest first; their number n gives patches with sides of 2^n.
        norm: MONAI's name for the normalisation, or (name, arguments).
        res_block: Whether blocks are residual instead of plain.
        conv_block: Whether each doubling of a map is also followed by a block.

    Attributes:
        features: Channels of each output, finest first.
        strides: Image voxels in one voxel of each output, finest first.

    Raises:
        ValueError: When the encoder's maps do not fit the features.
    """

    def __init__(
        self,
        spatial_dims: int,
        encoder: Any,
        features: Sequence[int] = (16, 32, 64, 128),
        norm: Named = "instance",
        res_block: bool = True,
        conv_block: bool = True,
    ) -> None:
        super().__init__()
        levels = len(features)
        image, *tokens = encoder.features
        patch = (2**levels,) * spatial_dims
        if levels < 1 or [tuple(s) for s in encoder.strides] != [(1,) * spatial_dims] + [patch] * levels:
            raise ValueError(
                f"{levels} features need the image and {levels} maps of patches of {patch} voxels, "
                f"not the encoder's maps at strides {encoder.strides}"
            )
        self.features = list(features)
        self.strides = [(2**i,) * spatial_dims for i in range(levels)]
        style: dict[str, Any] = {"kernel_size": 3, "norm_name": named(norm), "res_block": res_block}
        double: dict[str, Any] = {"upsample_kernel_size": 2}
        self.image = UnetrBasicBlock(spatial_dims, image, features[0], stride=1, **style)
        self.project = nn.ModuleList(
            UnetrPrUpBlock(
                spatial_dims,
                tokens[i - 1],
                features[i],
                levels - 1 - i,
                stride=1,
                conv_block=conv_block,
                **double,
                **style,
            )
            for i in range(1, levels)
        )
        inputs = [*features[1:], tokens[-1]]
        self.up = nn.ModuleList(
            UnetrUpBlock(spatial_dims, inputs[i], features[i], **double, **style) for i in reversed(range(levels))
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map the image and the maps of its patches to ``features`` channels at ``strides``, finest first."""
        image, *tokens, hidden = maps
        skips = [self.image(image), *(project(map_) for project, map_ in zip(self.project, tokens, strict=True))]
        outputs: list[Tensor] = []
        for up, skip in zip(self.up, reversed(skips), strict=True):
            hidden = up(hidden, skip)
            outputs.insert(0, hidden)
        return outputs
