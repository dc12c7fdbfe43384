"""The logits of a scan's windows, of which those of one value throughout are computed once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from segment.inference.blending import constant_places, cut
from segment.inference.dropout import content_of, drawn
from segment.inference.tiling import Pass, Place, Schedule, Step
from segment.networks.padding import memory_format

Network = Callable[[Tensor], Tensor]
"""Maps (n, channel, *window) to logits (n, output, *window)."""


class Forward:
    """Computes the logits of the windows of a step.

    A window in which every channel has one value is computed once for each network and content.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        image: Tensor,
        window: Place,
        flat: bool,
        layout: str,
        passes: Sequence[Pass],
        order: Schedule,
    ) -> None:
        self.networks = networks
        self.image = image
        self.window = window
        self.flat = flat
        self.format = memory_format(2 if flat else 3, layout)
        self.passes = passes
        places = sorted({place for step in order.steps for _, place in step.windows})
        self.constant = constant_places(image, places, window)
        self.known: dict[int, tuple[tuple[float, ...], Tensor]] = {}

    def __call__(self, step: Step) -> Iterator[tuple[int, Place, Tensor]]:
        """The pass, the place and the logits (output, *window) of each window, on the scan's own sides."""
        network = self.networks[self.passes[step.windows[0][0]].network]
        varying = [job for job in step.windows if job[1] not in self.constant]
        logits = iter(self._logits(network, [self._view(*job) for job in varying]) if varying else ())
        for index, place in step.windows:
            one = self._known(network, index, place) if place in self.constant else next(logits)
            flipped = [axis + 1 for axis in self.passes[index].flipped]
            yield index, place, torch.flip(one, flipped) if flipped else one

    def _view(self, index: int, place: Place) -> Tensor:
        """A window (channel, *window), mirrored as its pass demands."""
        window = cut(self.image, place, self.window)
        flipped = [axis + 1 for axis in self.passes[index].flipped]
        return torch.flip(window, flipped) if flipped else window

    def _logits(self, network: Network, windows: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(windows))
        if self.flat:
            return network(stacked.squeeze(2).contiguous(memory_format=self.format)).float().unsqueeze(2)
        return network(stacked.contiguous(memory_format=self.format)).float()

    def _known(self, network: Network, index: int, place: Place) -> Tensor:
        """Logits of a constant window; only those of a network's latest content are kept."""
        number, content = self.passes[index].network, self.constant[place]
        if number not in self.known or self.known[number][0] != content:
            self.known[number] = content, self._logits(network, [self._view(index, place)])[0]
        return self.known[number][1]


class Dropping(Forward):
    """Computes the logits of the windows of a step one by one, with dropout that depends on scan, pass and window."""

    def __call__(self, step: Step) -> Iterator[tuple[int, Place, Tensor]]:
        """As `Forward`."""
        for index, place in step.windows:
            one = self.passes[index]
            with drawn((self.content, index, *place), self.image.device):
                logits = self._logits(self.networks[one.network], [self._view(index, place)])[0]
            flipped = [axis + 1 for axis in one.flipped]
            yield index, place, torch.flip(logits, flipped) if flipped else logits

    @functools.cached_property
    def content(self) -> int:
        """A number that stands for the scan."""
        return content_of(self.image)
