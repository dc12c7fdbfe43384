"""An encoder that sees visible voxels only, as one of sparse convolutions would: SparK's masking."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from segment.networks.padding import pad_to_divisor

TOKENS = "tokens."
"""Start of the names of the mask tokens."""

_ZERO_KEPT = (nn.ELU, nn.GELU, nn.Hardswish, nn.Identity, nn.LeakyReLU, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.SiLU)
_PLACED = (_ConvNd, _MaxPoolNd, _AvgPoolNd)
_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm)
_FITTING = (*_PLACED, *_NORMS, *_ZERO_KEPT, _DropoutNd, nn.Sequential, nn.ModuleList)  # the last two where empty


class SparseEncoding:
    """Lets a network's encoder see visible voxels only (SparK: Tian et al. 2023, arXiv 2301.03580, sec. 3.2 and 3.3).

    While `visible` is set, what is hidden is zero in the image and after each convolution and pooling, so that hidden
    regions do not shrink with depth; norms take their statistics from visible places; and, in the encoder's maps,
    hidden places hold a learned vector of each map (``tokens`` of the network), which the decoder gets.

    A voxel of a coarser map is visible where any of its image voxels is; in the paper the masked blocks are the
    coarsest map's voxels. The paper's 1x1 convolution of each map before the decoder is left out: a U-Net's decoder
    takes the maps as they are. The convolutions are dense and take the usual time.

    Args:
        network: Its encoder is changed in place; gets the parameters ``tokens``.

    Attributes:
        visible: (batch, 1, *spatial) of the image, 1 visible and 0 hidden; None: the encoder works as before.

    Raises:
        ValueError: When the network has no encoder, or one with layers other than convolutions, pooling, batch,
            instance or group norm and activations that keep zero.
    """

    def __init__(self, network: nn.Module) -> None:
        encoder: Any = getattr(network, "encoder", None)
        if not isinstance(encoder, nn.Module):
            raise ValueError(f"{type(network).__name__} has no encoder")
        _check(encoder)
        self.visible: Tensor | None = None
        self.divisor: Any = network.divisor
        channels: Any = encoder.features
        self.tokens = nn.ParameterList(nn.init.trunc_normal_(torch.empty(n), std=0.02) for n in channels)
        network.add_module(TOKENS.rstrip("."), self.tokens)
        encoder.register_forward_pre_hook(self._hide_image)
        encoder.register_forward_hook(self._fill)
        for module in encoder.modules():
            if isinstance(module, _PLACED):
                module.register_forward_hook(self._hide)
            elif isinstance(module, _NORMS):
                module.forward = functools.partial(self._normalize, module)  # type: ignore[method-assign]

    def at(self, like: Tensor) -> Tensor:
        """Where a map (batch, channel, *spatial) is visible: (batch, 1, *spatial), of its type."""
        assert self.visible is not None
        whole = pad_to_divisor(self.visible.float(), self.divisor)
        pool = functional.adaptive_max_pool3d if whole.ndim == 5 else functional.adaptive_max_pool2d
        size: Any = like.shape[2:]
        return pool(whole, size).to(like.dtype)

    def _hide_image(self, encoder: nn.Module, given: tuple[Tensor]) -> tuple[Tensor] | None:
        return None if self.visible is None else (given[0] * self.at(given[0]),)

    def _hide(self, layer: nn.Module, given: Any, result: Tensor) -> Tensor:
        return result if self.visible is None else result * self.at(result)

    def _fill(self, encoder: nn.Module, given: Any, maps: list[Tensor]) -> list[Tensor]:
        if self.visible is None:
            return maps
        filled = []
        for image, token in zip(maps, self.tokens, strict=True):
            shaped = token.to(image.dtype).view(1, -1, *[1] * (image.ndim - 2))
            filled.append(torch.where(self.at(image) > 0, image, shaped))
        return filled

    def _normalize(self, norm: Any, image: Tensor) -> Tensor:
        """Apply a norm to the visible places alone; the others are zero."""
        if self.visible is None:
            plain: Tensor = type(norm).forward(norm, image)
            return plain
        seen = self.at(image)
        if not isinstance(norm, _BatchNorm):
            return _grouped(norm, image, seen)
        places = seen[:, 0] > 0
        values = image.movedim(1, -1)[places]  # (visible, channel)
        values = type(norm).forward(norm, values.view(*values.shape, *[1] * (image.ndim - 2))).view(values.shape)
        result = torch.zeros_like(image.movedim(1, -1), dtype=values.dtype)
        result[places] = values
        return result.movedim(-1, 1)


def _grouped(norm: Any, image: Tensor, seen: Tensor) -> Tensor:
    """Instance or group norm with statistics over the visible places of each sample."""
    groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else image.shape[1]
    with torch.autocast(image.device.type, enabled=False):
        values = image.float().unflatten(1, (groups, -1))
        weight = seen.float().unsqueeze(1)
        axes = tuple(range(2, values.ndim))
        count = (weight.sum(axes, keepdim=True) * values.shape[2]).clamp(min=1)
        centred = values - (values * weight).sum(axes, keepdim=True) / count
        variance = (centred.square() * weight).sum(axes, keepdim=True) / count
        result = (centred * (variance + norm.eps).rsqrt()).flatten(1, 2)
        if norm.weight is not None:
            shape = (1, -1, *[1] * (image.ndim - 2))
            result = result * norm.weight.view(shape) + norm.bias.view(shape)
        return (result * seen.float()).to(image.dtype)


def _check(encoder: nn.Module) -> None:
    """Refuse layers through which hidden places would take part."""
    for name, module in encoder.named_modules():
        if next(module.children(), None) is not None:
            fits = next(module.parameters(recurse=False), None) is None  # such as the positions of a transformer
        elif isinstance(module, _InstanceNorm):
            fits = not module.track_running_stats
        else:
            fits = isinstance(module, _FITTING) and not isinstance(module, _ConvTransposeNd)
        if not fits:
            part = f"encoder.{name}".rstrip(".")
            raise ValueError(f"{part} is a {type(module).__name__}, which sees all voxels")
