"""Networks without memory: parameters and activations have shapes, but no values."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

MAX_VALUES = 1 << 16  # in one linspace; a schedule over the layers of a network is far shorter


class _Shapes(TorchFunctionMode):
    """Gives constructors the few values that they read, and skips random initialisation."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            # SwinUNETR and others read the drop rate of each layer from it.
            steps = kwargs.get("steps", args[2] if len(args) > 2 else 0)
            if not 0 <= steps <= MAX_VALUES:
                raise ValueError(f"a schedule of {steps} values is not that of a network")
            kwargs.setdefault("device", "cpu")
        elif func in (Tensor.normal_, Tensor.uniform_) and args[0].is_meta:
            return args[0]  # torch's own no-op is slow, and imports its compiler
        return func(*args, **kwargs)


@contextlib.contextmanager
def on_meta() -> Iterator[None]:
    """Build networks on the meta device; values of ``torch.linspace`` are real, because constructors read them.

    Raises:
        ValueError: Inside the context, when a constructor asks for too many such values.
    """
    with torch.device("meta"), _Shapes():
        yield


def meta_copy(network: nn.Module) -> nn.Module:
    """A copy of a network on the meta device; its weights are not copied.

    Args:
        network: On any device; unchanged.
    """
    memo: dict[int, Any] = {
        id(value): nn.Parameter(torch.empty_like(value, device="meta"), value.requires_grad)
        for value in network.parameters()
    }
    memo |= {id(value): torch.empty_like(value, device="meta") for value in network.buffers()}
    return copy.deepcopy(network, memo)
