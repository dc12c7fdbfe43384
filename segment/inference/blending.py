"""Weighted sums of overlapping windows, of which only the planes in use are held."""

from __future__ import annotations

import math
import mmap

import torch
from torch import Tensor

from segment.inference.tiling import Place


class Blend:
    """Blends the windows of one pass; planes are taken in order, and their memory is used again.

    Args:
        size: Voxels of the scan along each axis.
        axis: The axis that planes are orthogonal to.
        held: Planes from the first that is not taken to the last that a window touches, at most.
        weights: (*window) weights of a window's voxels.
    """

    def __init__(self, size: Place, axis: int, held: int, weights: Tensor) -> None:
        self.axis = axis
        self.held = held
        self.weights = weights.movedim(axis, 0)
        self.across = [other for other in range(3) if other != axis]
        self.plane = [size[other] for other in self.across]
        self.sums: Tensor | None = None

    def add(self, logits: Tensor, place: Place) -> None:
        """Add the logits (output, *window) of a window that begins at `place`."""
        if self.sums is None:  # the last output is the sum of the weights
            self.sums = _zeros((self.held, len(logits) + 1, *self.plane), logits)
        moved = logits.movedim(self.axis + 1, 0)
        outputs, length = moved.shape[1], len(moved)
        rows, columns = (
            slice(place[other], place[other] + extent)
            for other, extent in zip(self.across, self.weights.shape[1:], strict=True)
        )
        weighted = moved * self.weights[:, None]
        first = place[self.axis] % self.held
        fit = min(length, self.held - first)
        for start, part in ((first, slice(0, fit)), (0, slice(fit, length))):
            if part.start < part.stop:
                target = self.sums[start : start + part.stop - part.start, :, rows, columns]
                target[:, :outputs] += weighted[part]
                target[:, outputs] += self.weights[part]

    def take(self, index: int) -> Tensor:
        """The blended logits (output, *plane) of the next plane, which is released."""
        assert self.sums is not None
        plane = self.sums[index % self.held]
        logits = torch.div(plane[:-1], plane[-1:])
        plane.zero_()
        return logits

    def release(self) -> None:
        """Free the memory of all planes, once they are taken."""
        self.sums = None


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros of a shape; the system has their memory back as soon as they are freed, whatever malloc keeps."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    memory = mmap.mmap(-1, like.element_size() * math.prod(shape))
    return torch.frombuffer(memory, dtype=like.dtype).view(shape)


def constant_places(image: Tensor, places: list[Place], window: Place) -> dict[Place, tuple[float, ...]]:
    """The windows in which every channel has one value throughout, such as air, and their values.

    Waits for the image's device twice, whatever the number of windows.

    Args:
        image: (channel, z, y, x).
        places: The windows.
        window: Voxels of a window along each axis.
    """
    index = torch.tensor(places, device=image.device)
    corners = [
        image[:, index[:, 0] + z, index[:, 1] + y, index[:, 2] + x]
        for z in {0, window[0] - 1}
        for y in {0, window[1] - 1}
        for x in {0, window[2] - 1}
    ]
    alike = torch.stack([(corner == corners[0]).all(dim=0) for corner in corners]).all(dim=0).tolist()
    possible = [place for place, same in zip(places, alike, strict=True) if same]
    if not possible:
        return {}
    constant = torch.stack([is_constant(cut(image, place, window)) for place in possible])
    values = torch.stack([image[(slice(None), *place)] for place in possible])
    # As one tensor, since each that is read is waited for; any floats that a network takes are exact in float32.
    found = torch.cat([constant[:, None].float(), values.float()], dim=1).tolist()
    return {place: tuple(content) for place, (same, *content) in zip(possible, found, strict=True) if same}


def is_constant(window: Tensor) -> Tensor:
    """Whether every channel of (channel, z, y, x) has one value throughout; a scalar on the window's device."""
    return (window == window[:, :1, :1, :1]).all()


def cut(image: Tensor, place: Place, window: Place) -> Tensor:
    """The window (channel, *window) of an image (channel, z, y, x); a view."""
    slices = (slice(start, start + extent) for start, extent in zip(place, window, strict=True))
    return image[(slice(None), *slices)]
