"""Channel counts of a network's layers as plain data, from which a pruned network is rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.instancenorm import _InstanceNorm

Counts = Mapping[str, Mapping[str, int]]
"""Name of a module to its attributes that count channels."""

_CONVOLUTION = ("in_channels", "out_channels", "groups")
ATTRIBUTES: dict[type[nn.Module], tuple[str, ...]] = {
    _ConvNd: _CONVOLUTION,
    nn.Linear: ("in_features", "out_features"),
    _InstanceNorm: ("num_features",),
    _BatchNorm: ("num_features",),
    nn.GroupNorm: ("num_channels", "num_groups"),
    nn.PReLU: ("num_parameters",),
}
"""Attributes that count channels, of every kind of module that has any; other modules keep their size."""


def channel_counts(network: nn.Module) -> dict[str, dict[str, int]]:
    """The channel counts of all layers of a network."""
    named = ((name, module, _attributes(module)) for name, module in network.named_modules())
    return {name: {key: int(getattr(module, key)) for key in keys} for name, module, keys in named if keys is not None}


def resize(network: nn.Module, counts: Counts) -> None:
    """Change the channel counts of layers in place; the values of what changes its shape are undefined.

    Args:
        network: The network.
        counts: From `channel_counts` of a network of the same modules, such as a file that may come from anybody.

    Raises:
        ValueError: When a module is not there or counts no channels, or a count is out of range.
    """
    modules = dict(network.named_modules())
    for name, given in counts.items():
        known = _attributes(modules[name]) if name in modules else None
        if known is None or set(given) != set(known):
            raise ValueError(f"the channel counts name {name!r} with {', '.join(map(str, given))}, which no layer has")
        if not all(type(count) is int and 1 <= count <= 1 << 16 for count in given.values()):
            raise ValueError(f"the channel counts of {name!r} are no numbers from 1 to {1 << 16}")
        if any(getattr(modules[name], key) != count for key, count in given.items()):
            _resize(modules[name], given)


def _attributes(module: nn.Module) -> tuple[str, ...] | None:
    return next((keys for kind, keys in ATTRIBUTES.items() if isinstance(module, kind)), None)


def _resize(module: nn.Module, given: Mapping[str, int]) -> None:
    for key, count in given.items():
        setattr(module, key, count)
    if isinstance(module, _ConvNd):
        if module.in_channels % module.groups or module.out_channels % module.groups:
            raise ValueError(f"{module.groups} groups do not divide {module.in_channels} and {module.out_channels}")
        outer, inner = module.out_channels, module.in_channels
        if isinstance(module, _ConvTransposeNd):
            outer, inner = inner, outer
        _replace(module, "weight", (outer, inner // module.groups, *module.kernel_size))
        _replace(module, "bias", (module.out_channels,))
    elif isinstance(module, nn.Linear):
        _replace(module, "weight", (module.out_features, module.in_features))
        _replace(module, "bias", (module.out_features,))
    else:
        (size, *_) = given.values()
        for name in ("weight", "bias", "running_mean", "running_var"):
            _replace(module, name, (size,))


def _replace(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    """Put an empty parameter or buffer of another shape in place of one, if there is one."""
    old: Any = getattr(module, name, None)
    if old is None:
        return
    new = torch.empty(shape, dtype=old.dtype, device=old.device)
    setattr(module, name, nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new)
