"""Vision transformers: encode an image as a sequence of patches and return it as maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.blocks import MLPBlock, UnetrPrUpBlock
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from segment.networks.blocks import PerAxis, per_axis
from segment.networks.stages import Stage


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, sec. 3.2), through torch's fused kernel.

    MONAI's ``SABlock`` needs einops, and with the fused kernel also drops attention weights in evaluation mode.

    Args:
        hidden: Channels of a token.
        heads: Number of heads; divides ``hidden``.
        qkv_bias: Whether queries, keys and values have a bias.
    """

    def __init__(self, hidden: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        if hidden < 1 or heads < 1 or hidden % heads:
            raise ValueError(f"hidden={hidden} must be a multiple of heads={heads}")
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=qkv_bias)
        self.out_proj = nn.Linear(hidden, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return result


class TransformerLayer(Stage):
    """Attention and MLP, each after a norm and added to its input (Dosovitskiy et al. 2021, eq. 2 and 3).

    MONAI's ``TransformerBlock`` has a norm for cross-attention that never gets a gradient.

    Args:
        hidden: Channels of a token.
        heads: Number of heads.
        mlp: Channels inside the MLP.
        qkv_bias: Whether queries, keys and values have a bias.
        dropout: Probability of dropping a value in the MLP.
        eps: Added to the variance in the norms.
    """

    def __init__(
        self, hidden: int, heads: int, mlp: int, qkv_bias: bool = True, dropout: float = 0.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden, eps=eps)
        self.attention = SelfAttention(hidden, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(hidden, eps=eps)
        self.mlp = MLPBlock(hidden, mlp, dropout)

    def run(self, tokens: Tensor) -> Tensor:
        """Map (batch, tokens, hidden) to the same shape."""
        tokens = tokens + self.attention(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


def fit_position(position: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Interpolate a position embedding linearly to another grid of tokens.

    Args:
        position: (1, tokens, hidden); tokens before those of the grid, such as the class token, are unchanged.
        old: Present tokens along each axis.
        new: Requested tokens along each axis; from two axes to three, it is repeated along the first.

    Returns:
        (1, other tokens, hidden); the input itself when both grids are equal.
    """
    old, new = tuple(old), tuple(new)
    if old == new:
        return position
    first = position.shape[1] - math.prod(old)
    table = position[:, first:].transpose(1, 2).unflatten(2, (1,) * (len(new) - len(old)) + old)
    table = functional.interpolate(table, new, mode="trilinear" if len(new) == 3 else "bilinear")
    return torch.cat((position[:, :first], table.flatten(2).transpose(1, 2)), dim=1)


class ViT(nn.Module):
    """Returns the image, and the tokens after some layers of a vision transformer as maps (Dosovitskiy et al. 2021).

    The encoder of UNETR (Hatamizadeh et al. 2022, sec. 3.1), arXiv 2103.10504. With a class token it is the trunk of
    the image classifier; the token reaches the maps through the attention of every layer.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        patch_size: Voxels of a patch, an integer or one per axis.
        hidden: Channels of a token.
        depth: Number of layers.
        heads: Number of heads; divides ``hidden``.
        mlp: Channels inside the MLPs.
        image_size: Size that the learned position embedding is made for, an integer or one per axis; it is
            interpolated for any other. The size of the training patches works best.
        taps: Numbers of the layers after which a map is taken, ascending and ending with ``depth``; the last map
            passes the final norm.
        class_token: Whether the sequence starts with a learned token.
        qkv_bias: Whether queries, keys and values have a bias.
        dropout: Probability of dropping a value after the position embedding and in the MLPs.
        eps: Added to the variance in the norms.

    Attributes:
        features: Channels of the image, then ``hidden`` for each tap.
        strides: One, then ``patch_size`` for each tap.
        divisor: ``patch_size``.
        grid: Tokens along each axis that the position embedding is made for.

    Raises:
        ValueError: When an argument is out of range or arguments do not fit together.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        patch_size: PerAxis = 16,
        hidden: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp: int = 3072,
        image_size: PerAxis = 96,
        taps: Sequence[int] = (3, 6, 9, 12),
        class_token: bool = False,
        qkv_bias: bool = True,
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        patch, size = per_axis(patch_size, spatial_dims), per_axis(image_size, spatial_dims)
        if spatial_dims not in (2, 3) or min(in_channels, mlp, *patch) < 1:
            raise ValueError(
                f"spatial_dims={spatial_dims} must be 2 or 3, {in_channels=}, {mlp=} and {patch_size=} positive"
            )
        if any(s < p or s % p for s, p in zip(size, patch, strict=True)):
            raise ValueError(f"image_size={image_size} must be a multiple of patch_size={patch_size}")
        if not taps or list(taps) != sorted(set(taps)) or taps[0] < 1 or taps[-1] != depth:
            raise ValueError(
                f"taps={taps} must ascend from 1 or more to depth={depth}: later layers would learn nothing"
            )
        self.features = [in_channels] + [hidden] * len(taps)
        self.strides = [(1,) * spatial_dims] + [patch] * len(taps)
        self.divisor = patch
        self.taps = tuple(taps)
        self.layers = nn.ModuleList(TransformerLayer(hidden, heads, mlp, qkv_bias, dropout, eps) for _ in range(depth))
        self.norm = nn.LayerNorm(hidden, eps=eps)
        self.patches = Conv[Conv.CONV, spatial_dims](in_channels, hidden, kernel_size=patch, stride=patch)
        self.grid = tuple(s // p for s, p in zip(size, patch, strict=True))
        self.class_token = nn.Parameter(torch.empty(1, 1, hidden)) if class_token else None
        self.position = nn.Parameter(torch.empty(1, math.prod(self.grid) + class_token, hidden))
        self.dropout = nn.Dropout(dropout)
        self._initialise()

    def _initialise(self) -> None:
        """Weights from a truncated normal distribution with standard deviation 0.02, biases zero."""
        nn.init.trunc_normal_(self.position, std=0.02)
        if self.class_token is not None:
            nn.init.trunc_normal_(self.class_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear) or module is self.patches:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (batch, in_channels, *spatial) to the image and maps (batch, hidden, *spatial / patch_size)."""
        patches = self.patches(image)
        grid = patches.shape[2:]
        tokens = patches.flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat((self.class_token.expand(image.shape[0], -1, -1), tokens), dim=1)
        tokens = self.dropout(tokens + fit_position(self.position, self.grid, grid))
        maps = [image]
        for done, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens)
            if done in self.taps:
                output = self.norm(tokens) if done == len(self.layers) else tokens
                output = output if self.class_token is None else output[:, 1:]
                maps.append(output.transpose(1, 2).unflatten(2, grid))
        return maps


class ViTPyramid(nn.Module):
    """ViT-B/16, the image classifier, with maps at strides 2, 4, 8 and 16 for a U-Net's decoder.

    The coarsest map is the transformer's output; the finer ones are earlier layers upsampled by transposed
    convolutions, as UNETR does (Hatamizadeh et al. 2022, fig. 2, MONAI's ``UnetrPrUpBlock``).

    Args:
        spatial_dims: 2 or 3.
        in_channels: Channels of the image.
        image_size: Size that the position embedding is made for. None: 224 in 2D, 96 in 3D.
        features: Channels of the three finer maps, finest first.
        taps: Number of the layer after which each map is taken, finest first.
        **trunk: hidden, depth, heads, mlp and dropout of :class:`ViT`.

    Attributes:
        trunk: The classifier without its head, in 2D of 85,798,656 parameters (torchvision's ``vit_b_16``, see
            :func:`adapt`).
        features: Channels of each map, finest first.
        strides: Image voxels in one voxel of each map, finest first.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: PerAxis | None = None,
        features: Sequence[int] = (64, 128, 256),
        taps: Sequence[int] = (3, 6, 9, 12),
        **trunk: Any,
    ) -> None:
        super().__init__()
        if len(features) != 3 or len(taps) != 4 or min(features) < 1:
            raise ValueError(f"features={features} must be three channels, taps={taps} four layers")
        if image_size is None:
            image_size = 96 if spatial_dims == 3 else 224
        self.trunk = ViT(
            spatial_dims, in_channels, image_size=image_size, taps=taps, class_token=True, eps=1e-6, **trunk
        )
        hidden = self.trunk.features[-1]
        self.features = [*features, hidden]
        self.strides = [(2**i,) * spatial_dims for i in (1, 2, 3, 4)]
        self.up = nn.ModuleList(
            UnetrPrUpBlock(
                spatial_dims,
                in_channels=hidden,
                out_channels=channels,
                num_layer=2 - i,
                kernel_size=3,
                stride=1,
                upsample_kernel_size=2,
                norm_name="instance",
                conv_block=True,
                res_block=True,
            )
            for i, channels in enumerate(features)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (batch, in_channels, *spatial) to maps of ``features`` channels at ``strides``, finest first."""
        _, *maps, last = self.trunk(image)
        return [*(up(tokens) for up, tokens in zip(self.up, maps, strict=True)), last]

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of torchvision's ``vit_b_16`` under this encoder's names; missing ones keep their values."""
        trunk = {f"trunk.{name}": value for name, value in adapt(state, self.trunk.grid).items()}
        return trunk | {name: value for name, value in self.state_dict().items() if not name.startswith("trunk.")}


# Parts of a name in torchvision and here. Its older files, including the published ones, have linear_1 for mlp.0.
TORCHVISION_NAMES = (
    ("conv_proj.", "patches."),
    ("encoder.layers.encoder_layer_", "layers."),
    ("encoder.ln.", "norm."),
    (".ln_1.", ".norm1."),
    (".ln_2.", ".norm2."),
    (".self_attention.in_proj_", ".attention.qkv."),
    (".self_attention.out_proj.", ".attention.out_proj."),
    (".mlp.0.", ".mlp.linear1."),
    (".mlp.3.", ".mlp.linear2."),
    (".mlp.linear_1.", ".mlp.linear1."),
    (".mlp.linear_2.", ".mlp.linear2."),
)


def adapt(state: Mapping[str, Tensor], grid: Sequence[int]) -> dict[str, Tensor]:
    """The weights of torchvision's ``vit_b_16`` under the names of :class:`ViT`.

    Args:
        state: torchvision's state dict, any ``image_size``.
        grid: Grid of the ViT's position embedding, two or three axes.

    Returns:
        Name to tensor, without the classifier's head. Only ``patches.weight`` still has torchvision's shape
        (hidden, 3, 16, 16); it is adapted to other channels and to 3D like the convolution of any network.
    """
    adapted = {}
    for name, value in state.items():
        if name == "encoder.pos_embedding":
            side = math.isqrt(max(1, value.shape[1] - 1)) if value.ndim == 3 else 0
            known = value.ndim == 3 and value.shape[1] == side * side + 1
            adapted["position"] = fit_position(value.float(), (side, side), grid) if known else value
        elif not name.startswith("heads."):
            for theirs, ours in TORCHVISION_NAMES:
                name = name.replace(theirs, ours)
            adapted[name] = value
    return adapted
