"""Class probabilities of a whole scan from overlapping windows, with mirroring as test-time augmentation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import cast

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from segment.augment.spatial import spatial_axes
from segment.inference.limits import check_windows
from segment.networks.padding import memory_format

AVERAGES = ("probabilities", "logits")
SLAB = 1 << 22  # scores that are converted to probabilities at once


class SlidingWindows:
    """Predicts a scan window by window; neighbouring windows are blended with Gaussian weights.

    The window logits are averaged with weights of standard deviation ``sigma * window`` and turned into
    probabilities once; mirrored passes are averaged as `average` says.

    Args:
        overlap: Fraction of a window that overlaps the next one, 0 to 0.95.
        batch_size: Windows per forward pass, at least 1.
        mirror: ``"all"``, or the spatial axes (array order) of which every combination is flipped and averaged;
            empty for none. Three axes cost eight passes.
        sigma: Standard deviation of the Gaussian weights in window lengths, above 0 and at most 10.
        average: What mirrored passes are averaged as: ``probabilities``, or ``logits`` as in nnU-Net (Isensee et al.
            2021).

    Raises:
        ValueError: When a number is out of range.
        TypeError: When a value is not a number.
    """

    def __init__(
        self,
        overlap: float = 0.5,
        batch_size: int = 4,
        mirror: str | Sequence[int] = (),
        sigma: float = 0.125,
        average: str = "probabilities",
    ) -> None:
        check_windows(overlap, batch_size, sigma)
        if average not in AVERAGES:
            raise ValueError(f"average={average} must be one of {', '.join(AVERAGES)}")
        self.overlap = overlap
        self.batch_size = int(batch_size)
        self.mirror = mirror
        self.sigma = sigma
        self.average = average

    def describe(self) -> dict[str, object]:
        """Settings to report with every score: overlap and test-time augmentation."""
        mirror = self.mirror if isinstance(self.mirror, str) else list(self.mirror)
        views = f"mirror {mirror}{' of logits' * (self.average == 'logits')}" if self.mirror else "none"
        return {"overlap": self.overlap, "test_time_augmentation": views}

    def flips(self, dims: int) -> list[tuple[int, ...]]:
        """Tensor axes flipped in each pass; the first pass flips none."""
        axes = spatial_axes(self.mirror, dims, "inference.mirror")
        subsets = chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1))
        return [tuple(axis + 2 for axis in subset) for subset in subsets]

    @torch.inference_mode()
    def __call__(self, network: nn.Module, image: Tensor, window: Sequence[int], regions: bool = False) -> Tensor:
        """Compute the probabilities of every class or region.

        Args:
            network: Maps (n, channel, *window) to logits (n, class, *window); must be in evaluation mode.
            image: (channel, *spatial) on the network's device.
            window: Voxels of a window; a smaller scan is padded with 0. With two numbers, a 3D scan is predicted slice
                by slice along its first axis.
            regions: Whether outputs are independent regions (sigmoid) instead of classes (softmax).

        Returns:
            (output, *spatial) float32 in [0, 1], summing to 1 over classes.
        """
        dims = len(window)
        stack = image.movedim(1, 0) if image.ndim - 1 > dims else image[None]
        inferer = SlidingWindowInferer(
            window, self.batch_size, self.overlap, mode="gaussian", sigma_scale=self.sigma, padding_mode="constant"
        )

        def forward(windows: Tensor) -> Tensor:
            return network(windows.contiguous(memory_format=memory_format(dims))).float()

        scores: Callable[[Tensor], Tensor] = functools.partial(_probabilities, regions=regions)
        if self.average == "logits":
            scores = _unchanged
        total: Tensor | None = None
        passes = self.flips(dims)
        for axes in passes:
            view = torch.flip(stack, axes) if axes else stack
            # The logits are not bound to a name, so that they are freed before the next pass.
            total = _add(total, cast("Tensor", inferer(view, forward)), axes, scores)
        assert total is not None
        total.div_(len(passes))
        if self.average == "logits":
            total = _add(None, total, (), functools.partial(_probabilities, regions=regions))
        return total[0] if stack.ndim == image.ndim + 1 else total.movedim(0, 1)


def _probabilities(logits: Tensor, regions: bool) -> Tensor:
    """Probabilities of logits (n, output, *spatial)."""
    return torch.sigmoid(logits) if regions else torch.softmax(logits, dim=1)


def _unchanged(logits: Tensor) -> Tensor:
    return logits


def _add(total: Tensor | None, logits: Tensor, axes: tuple[int, ...], scores_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Add the scores of a pass to the total, part by part, since a copy for a whole scan takes gigabytes.

    Args:
        total: (n, output, *spatial); None in the first pass, which is not flipped and whose logits become the total.
        logits: (n, output, *spatial); changed in the first pass.
        axes: Axes that are flipped.
        scores_of: Scores of a part of the logits.
    """
    length, first = logits.shape[2], total is None
    total = logits if total is None else total
    step = max(1, SLAB * length // logits.numel())
    for start in range(0, length, step):
        stop = min(start + step, length)
        part = logits[:, :, start:stop]
        scores = scores_of(part)
        if first:
            part.copy_(scores)
        else:
            target = slice(length - stop, length - start) if 2 in axes else slice(start, stop)
            total[:, :, target] += torch.flip(scores, axes)
    return total
