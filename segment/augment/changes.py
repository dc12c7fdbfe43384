"""Intensity changes of a recipe: a probability, a range, and how a number drawn from it is applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from segment.augment import intensity
from segment.augment.spatial import check_probability, check_range


@dataclass(frozen=True)
class Change:
    """A change that is applied to a sample with some probability, with a separate number for each channel.

    A custom change is a subclass with `change` and, where needed, `words`.

    Attributes:
        probability: Probability that a sample is changed.
        range: Lowest and highest number that can be drawn.
        channel_probability: Probability that a channel is changed, in a sample that is.
        together: Whether all channels share one number.
        balanced: Whether numbers below and above 1 are equally likely, as in nnU-Net; otherwise uniform over the range.
    """

    probability: float
    range: Sequence[float]
    channel_probability: float = 1.0
    together: bool = False
    balanced: bool = False

    bounds: ClassVar[tuple[float, float]] = (0.0, 100.0)
    word: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: When a value is out of range; names the key.
        """
        key = f"augment.changes ({type(self).__name__})"
        check_probability(f"{key} probability", self.probability)
        check_probability(f"{key} channel_probability", self.channel_probability)
        check_range(f"{key} range", self.range, *self.bounds)

    def draw(self, random: np.random.Generator, channels: int) -> np.ndarray | None:
        """Draw the numbers for each channel.

        Args:
            random: The sample's generator for this change.
            channels: Image channels.

        Returns:
            (channels, 3): one number per axis where axes differ, otherwise only the first counts; NaN for an unchanged
            channel. None for an unchanged sample.
        """
        changed = random.random() < self.probability
        # Channel by channel, so that additional channels do not shift the numbers of the first.
        rows = np.stack([self._row(random) for _ in np.arange(channels)])
        if not changed or np.isnan(rows[:, 0]).all():
            return None
        if self.together:
            rows[:, :] = np.where(np.isnan(rows), np.nan, rows[~np.isnan(rows[:, 0])][0])
        return rows

    def _row(self, random: np.random.Generator) -> np.ndarray:
        choice, side, numbers = random.random(), random.random(), random.random(3)
        low, high = self.range
        if self.balanced and low < 1 < high:
            low, high = (low, 1.0) if side < 0.5 else (1.0, high)
        return low + (high - low) * numbers if choice < self.channel_probability else np.full(3, np.nan)

    def apply(self, image: Tensor, drawn: np.ndarray, generator: torch.Generator, in_plane: bool) -> None:
        """Change an image in place.

        Args:
            image: (channel, *spatial).
            drawn: The result of `draw`.
            generator: Draws random fields, for changes that need one; on the image's device.
            in_plane: Whether slices along the first spatial axis are too thick to treat it like the others.
        """
        for channel, numbers in zip(image, drawn.tolist(), strict=True):
            if numbers[0] == numbers[0]:
                self.change(channel, numbers, generator, in_plane)

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Change one channel (*spatial) in place; see `apply`."""
        raise NotImplementedError

    def words(self, drawn: np.ndarray) -> str:
        """Describe what was drawn, for a caption."""
        numbers = ", ".join("-" if np.isnan(row[0]) else f"{row[0]:.2f}" for row in drawn)
        return f"{self.word or type(self).__name__.lower()} {numbers}"


class Noise(Change):
    """Gaussian noise; the range is that of its standard deviation."""

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Add noise."""
        intensity.noise(channel, numbers[0], generator)


class Blur(Change):
    """Gaussian smoothing; the range is that of sigma in voxels, drawn for each axis."""

    bounds = (0.01, 20.0)

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Smooth."""
        intensity.blur(channel, numbers[: channel.ndim])


class Brightness(Change):
    """A factor on all intensities."""

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Multiply."""
        intensity.brightness(channel, numbers[0])


class Shift(Change):
    """A constant added to all intensities, in standard deviations of the image."""

    bounds = (-100.0, 100.0)

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Add."""
        intensity.shift(channel, numbers[0])


@dataclass(frozen=True)
class Contrast(Change):
    """A factor on the distance from the mean.

    Attributes:
        keep_range: Whether values are clipped to the original range.
    """

    keep_range: bool = True

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Scale the distance from the mean."""
        intensity.contrast(channel, numbers[0], self.keep_range)


class LowResolution(Change):
    """A coarser grid; the range is that of its relative size, equal for all axes (in plane for thick slices)."""

    bounds = (0.05, 1.0)
    word = "resolution"

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Reduce the resolution."""
        factors = [numbers[0]] * channel.ndim
        intensity.low_resolution(channel, [1.0, *factors[1:]] if in_plane else factors)


@dataclass(frozen=True)
class Gamma(Change):
    """A gamma curve; the range is that of its exponent.

    Attributes:
        inverted: Whether the curve is applied to the negative of the image.
    """

    inverted: bool = False
    bounds: ClassVar[tuple[float, float]] = (0.05, 20.0)

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Apply the curve."""
        intensity.gamma(channel, numbers[0], self.inverted)

    def words(self, drawn: np.ndarray) -> str:
        """Describe what was drawn, for a caption."""
        return ("inverted " if self.inverted else "") + super().words(drawn)


class Blank(Change):
    """Up to 5 boxes filled with the mean, the same in all channels; the range: side relative to the patch."""

    bounds = (0.01, 1.0)

    def change(self, channel: Tensor, numbers: list[float], generator: torch.Generator, in_plane: bool) -> None:
        """Fill."""
        random = np.random.default_rng(generator.initial_seed())
        boxes = []
        for _ in range(int(random.integers(1, 6))):
            sides = [max(1, round(n * random.uniform(self.range[0], self.range[1]))) for n in channel.shape]
            starts = [int(random.integers(0, n - side + 1)) for n, side in zip(channel.shape, sides, strict=True)]
            boxes.append([slice(a, a + side) for a, side in zip(starts, sides, strict=True)])
        intensity.blank(channel, boxes)

    def words(self, drawn: np.ndarray) -> str:
        """Describe what was drawn, for a caption."""
        return "blank boxes"
