"""Which operations of torch a piece of code calls, from where, and which of them make the host wait for a device.

A GPU computes while the host prepares what follows, unless the host asks for a value. Without one, that is seen in two
ways. On the CPU everything runs, and operations that ask are seen where torch dispatches them; reading a
tensor's memory (``tolist``, ``numpy``, ``cpu``) is not. On torch's device ``meta``, which has no values, each of them
raises an error, and copies to and from the device are seen.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import segment

OURS = str(Path(segment.__file__).parent)
TORCH = str(Path(torch.__file__).parent)
# Under inference_mode, composite ones are seen in place of what they consist of.
ASKING = {
    "_local_scalar_dense", "item", "is_nonzero", "nonzero", "nonzero_numpy", "argwhere", "masked_select", "_unique2",
    "unique_dim", "unique_consecutive", "equal", "allclose", "bincount", "repeat_interleave",
}  # fmt: skip


class Watched(TorchDispatchMode):
    """Notes every operation.

    Args:
        device_apart: Whether the device is ``meta``, which itself raises an error where it is asked; what the CPU is
            asked then is no wait.

    Attributes:
        operations: How often each was called, by its name in ``native_functions.yaml`` (``add.Tensor``).
        asked: File, line and operation of every place in our code that makes the host wait.
        doubles: The same of every place that makes a float64 on the device ``meta``.
        on: Whether operations are noted.
    """

    def __init__(self, device_apart: bool = False) -> None:
        super().__init__()
        self.device_apart = device_apart
        self.operations: Counter[str] = Counter()
        self.asked: list[str] = []
        self.doubles: list[str] = []
        self.on = True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if self.on:
            name = func._schema.name.removeprefix("aten::")
            overload = func._overloadname
            self.operations[name if overload == "default" else f"{name}.{overload}"] += 1
            caller = self._caller()
            if caller is not None:
                given = dict(zip((part.name for part in func._schema.arguments), args, strict=False)) | (kwargs or {})
                asks = name in ASKING and not self.device_apart
                if asks or _selects(name, given) or _copies(name, given, result):
                    self.asked.append(f"{caller} {name}")
                if any(part.dtype == torch.float64 and part.is_meta for part in _tensors(result)):
                    self.doubles.append(f"{caller} {name}")
        return result

    def _caller(self) -> str | None:
        """The place in our code that calls torch, perhaps through MONAI; None where Lightning or torch calls it."""
        frame = sys._getframe(2)
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(OURS):
                return f"{file.removeprefix(OURS)}:{frame.f_lineno}"
            if not file.startswith(TORCH) and "monai" not in file:
                return None
            frame = frame.f_back
        return None


def _tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _selects(name: str, given) -> bool:
    """Whether it indexes by a mask, whose voxels the host has to count."""
    masks = given["indices"] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
    return any(mask is not None and mask.dtype in (torch.bool, torch.uint8) for mask in masks)


def _copies(name: str, given, result) -> bool:
    """Whether it copies from the host to the device and waits until it is done."""
    if name == "lift_fresh":  # torch.tensor(numbers, device=...)
        return result.is_meta
    source = given["src"] if name == "copy_" else given["self"] if name in ("to", "_to_copy") else None
    sent = isinstance(source, torch.Tensor) and not source.is_meta and source.ndim > 0 and result.is_meta
    return sent and not given.get("non_blocking", False)
