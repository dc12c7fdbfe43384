"""What pretraining by restoration takes away from a patch: masked blocks, or the changes of Models Genesis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segment.augment.counter import generator
from segment.errors import UserError


class Corruption(Protocol):
    """Changes a patch so that a network can learn to restore it."""

    def __call__(self, patch: Tensor, seed: int, sample: int) -> tuple[Tensor, Tensor]:
        """Corrupt one patch; a function of the arguments.

        Args:
            patch: (channel, *spatial), normalised.
            seed: The run's seed.
            sample: The sample's number.

        Returns:
            The corrupted patch, and a mask (1, *spatial) of 1 where the restoration is judged.
        """
        ...


@dataclass(frozen=True)
class MaskedBlocks:
    """Masks random blocks, all channels alike, with 0, the mean of normalised images.

    Masked autoencoding (He et al. 2022, arXiv 2111.06377); the network sees masked and other voxels alike, unless
    `segment.networks.sparse` hides them from it as SparK does (Tian et al. 2023, arXiv 2301.03580).

    Attributes:
        ratio: Fraction of the blocks that is masked; SparK's 0.6 for convolutional networks.
        blocks: Blocks along each axis of the patch, fewer where it has fewer voxels.
    """

    ratio: float = 0.6
    blocks: int = 8

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: When one is out of range.
        """
        if not 0 < self.ratio < 1:
            raise UserError(f"method.corrupt.ratio={self.ratio}: give a fraction between 0 and 1.")
        if not 2 <= self.blocks <= 64:
            raise UserError(f"method.corrupt.blocks={self.blocks}: give a number from 2 to 64.")

    def __call__(self, patch: Tensor, seed: int, sample: int) -> tuple[Tensor, Tensor]:
        """Mask blocks; see `Corruption`."""
        shape = [min(self.blocks, size) for size in patch.shape[1:]]
        count = int(np.prod(shape))
        chosen = generator(seed, sample, "mask").permutation(count)[: round(self.ratio * count)]
        blocks = np.zeros(count, np.float32)
        blocks[chosen] = 1
        grid = torch.from_numpy(blocks).view(1, 1, *shape).to(patch.device)
        mask = functional.interpolate(grid, patch.shape[1:], mode="nearest")[0]
        return patch * (1 - mask), mask


@dataclass(frozen=True)
class Genesis:
    """The changes of Models Genesis (Zhou et al. 2019, arXiv 1908.06912, sec. 2, and the authors' code).

    Intensities by a monotone Bezier curve, voxels shuffled within small boxes, and boxes of noise within the patch
    (in-painting) or around what is kept of it (out-painting).

    Attributes:
        nonlinear: Probability of the curve.
        shuffle: Probability of shuffling.
        paint: Probability of painting.
        inner: Fraction of the paintings that are within the patch.
        boxes: Boxes that are shuffled; the authors' 1,000 for 64 x 64 x 32 voxels.
    """

    nonlinear: float = 0.9
    shuffle: float = 0.5
    paint: float = 0.9
    inner: float = 0.2
    boxes: int = 200

    def __call__(self, patch: Tensor, seed: int, sample: int) -> tuple[Tensor, Tensor]:
        """Change a patch; all of it is to be restored; see `Corruption`."""
        random = generator(seed, sample, "genesis")
        low, high = patch.amin(), patch.amax()
        scale = (high - low).clamp(min=1e-6)
        changed = (patch - low) / scale
        curve, shuffled, painted = random.random(3) < (self.nonlinear, self.shuffle, self.paint)
        if curve:
            changed = _bezier(changed, random.random(4))
        if shuffled:
            changed = _shuffled(changed, random, self.boxes)
        if painted:
            changed = _painted(changed, random, inner=random.random() < self.inner)
        return changed * scale + low, torch.ones_like(patch[:1])


def _bezier(values: Tensor, numbers: np.ndarray) -> Tensor:
    """Map values in [0, 1] by a cubic Bezier curve from (0, 0) to (1, 1), or falling for half of the draws."""
    line = np.linspace(0, 1, 256)
    weights = np.stack([3 * line * (1 - line) ** 2, 3 * line**2 * (1 - line)])
    # Sorted control points make the curve monotone.
    x, y = (weights.T @ np.sort(pair) + line**3 for pair in (numbers[:2], numbers[2:]))
    table = np.interp(line, x, y)
    if numbers[0] < numbers[1]:
        table = table[::-1]
    lookup = torch.from_numpy(table.astype(np.float32).copy()).to(values.device)
    place = values.clamp(0, 1) * 255
    index = place.floor().long().clamp(max=254)
    return torch.lerp(lookup[index], lookup[index + 1], place - index)


def _shuffled(patch: Tensor, random: np.random.Generator, boxes: int) -> Tensor:
    """Shuffle the voxels within small boxes, up to a tenth of the patch along each axis."""
    patch = patch.clone()
    largest = [max(2, size // 10) for size in patch.shape[1:]]
    for _ in range(boxes):
        part = (slice(None), *_box(random, patch.shape[1:], [1] * len(largest), largest))
        values = patch[part].flatten(1)
        order = torch.from_numpy(random.permutation(values.shape[1])).to(patch.device)
        patch[part] = values[:, order].view(patch[part].shape)
    return patch


def _painted(patch: Tensor, random: np.random.Generator, inner: bool) -> Tensor:
    """Replace up to five boxes by noise, or all but up to five boxes."""
    shape = patch.shape[1:]
    noise = torch.from_numpy(random.random(patch.shape, np.float32)).to(patch.device)
    result = patch.clone() if inner else noise
    least, most = ([size // 6 for size in shape], [size // 3 for size in shape])
    if not inner:
        least, most = ([3 * size // 7 for size in shape], [4 * size // 7 for size in shape])
    for _ in range(5):
        part = (slice(None), *_box(random, shape, least, most))
        result[part] = float(random.random()) if inner else patch[part]
        if random.random() > 0.95:
            break
    return result


def _box(random: np.random.Generator, shape: Sequence[int], least: Sequence[int], most: Sequence[int]) -> list[slice]:
    sizes = [int(random.integers(max(1, a), max(1, b), endpoint=True)) for a, b in zip(least, most, strict=True)]
    starts = [int(random.integers(0, size - own, endpoint=True)) for size, own in zip(shape, sizes, strict=True)]
    return [slice(start, start + own) for start, own in zip(starts, sizes, strict=True)]
