"""The batch size and memory layout in which a network's windows are fastest on the machine at hand."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import product

import torch
from torch import nn

from segment.inference.limits import AUTO, LAYOUTS
from segment.inference.windows import SlidingWindows
from segment.networks.padding import laid_out, memory_format

BATCHES = {"cpu": (1, 2, 4), "cuda": (1, 2, 4, 8)}
USUAL = {"cpu": (4, "contiguous"), "cuda": (4, "channels_last")}  # used unless another way is clearly faster
ROUNDS = 3  # of the candidates that were fastest once
CLEARLY = 0.95  # of the usual way's time; smaller gains are noise
WORTH = 1000  # windows from which a measurement takes a few percent of their time

Way = tuple[int, str]
"""Windows per forward pass, and their layout."""


def with_way(windows: SlidingWindows, way: Way) -> SlidingWindows:
    """The same windows with a batch size and a layout in place of ``auto``."""
    changed = copy.copy(windows)
    for name, value in zip(("batch_size", "layout"), way, strict=True):
        if getattr(windows, name) == AUTO:
            setattr(changed, name, value)
    return changed


def fastest(
    windows: SlidingWindows,
    network: nn.Module,
    shape: Sequence[int],
    device: torch.device,
    precision: Callable[[], AbstractContextManager],
    count: int | None = None,
) -> SlidingWindows:
    """Measure in which batch size and layout the windows are fastest, as far as these are ``auto``.

    Args:
        windows: The windows.
        network: The network in evaluation mode, on the device; its weights' layout may change.
        shape: (channel, *window).
        device: Where it runs.
        precision: Creates the context that it runs in.
        count: Windows to be predicted; with few of them, nothing is measured and `USUAL` is used. None: measure.
    """
    if AUTO not in (windows.batch_size, windows.layout):
        return windows
    kind = device.type if device.type in USUAL else "cpu"
    unmeasured = with_way(windows, USUAL[kind])
    if count is not None and count < WORTH:
        return unmeasured
    usual = int(unmeasured.batch_size), unmeasured.layout
    timer = Timer(network, shape, device, precision)
    sizes = BATCHES[kind] if windows.batch_size == AUTO else usual[:1]
    layouts = LAYOUTS if windows.layout == AUTO else usual[1:]
    once = {way: timer.seconds(way, warm=False) for way in product(sizes, layouts)}
    final = dict.fromkeys([usual, *sorted(once, key=once.__getitem__)[:2]])
    rounds = [{way: timer.seconds(way) for way in final} for _ in range(ROUNDS)]
    median = {way: statistics.median(one[way] for one in rounds) for way in final}
    best = min(median, key=median.__getitem__)
    return with_way(windows, best if median[best] < CLEARLY * median[usual] else usual)


class Timer:
    """Measures the time of a network's windows.

    Args:
        network: As for `fastest`.
        shape: As for `fastest`.
        device: As for `fastest`.
        precision: As for `fastest`.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: Sequence[int],
        device: torch.device,
        precision: Callable[[], AbstractContextManager],
    ) -> None:
        self.network = network
        self.shape = tuple(shape)
        self.device = device
        self.precision = precision

    @torch.inference_mode()
    def seconds(self, way: Way, warm: bool = True) -> float:
        """Seconds a window; infinite where the batch is out of memory.

        Args:
            way: Batch size and layout.
            warm: Whether it was measured before, so that libraries have prepared their kernels.
        """
        size, layout = way
        dims = len(self.shape) - 1
        laid_out(self.network, dims, layout)
        generator = torch.Generator().manual_seed(0)
        windows = torch.randn(size, *self.shape, generator=generator).to(self.device)
        windows = windows.contiguous(memory_format=memory_format(dims, layout))
        try:
            with self.precision():
                for _ in range(1 if warm else 2):
                    self._wait()
                    start = time.perf_counter()
                    self.network(windows)
                    self._wait()
            return (time.perf_counter() - start) / size
        except torch.OutOfMemoryError:
            return math.inf

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
