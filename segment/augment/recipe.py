"""Which augmentation with which probability: sampled per sample from (seed, sample), so that any can be replayed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segment.augment import intensity, spatial
from segment.augment.counter import generator


@dataclass(frozen=True)
class Parameters:
    """Everything that is random about the augmentation of a batch, one row a sample.

    Attributes:
        moved: (batch,) which samples are resampled.
        angles: (batch, 1 or 3) radians.
        scale: (batch,) factor on structure size.
        flips: (batch, spatial axes) booleans.
        noise: (batch,) standard deviation.
        brightness: (batch,) factor.
        contrast: (batch,) factor.
        gamma: (batch,) exponent.
    """

    moved: Tensor
    angles: Tensor
    scale: Tensor
    flips: Tensor
    noise: Tensor
    brightness: Tensor
    contrast: Tensor
    gamma: Tensor


class Recipe:
    """Random rotation and scale, mirrors, noise, brightness, contrast and gamma on a batch.

    Each ``*_probability`` is a sample's chance of that change; ranges are uniform.

    Args:
        spatial_probability: Chance of a rotation with scaling.
        rotation: Largest rotation about each axis, degrees.
        scale: Range of the factor on structure size.
        mirror: Spatial axes (array order) that may be flipped, each with chance 1/2; ``"all"`` or a list.
        noise_probability: Chance of Gaussian noise.
        noise: Range of its standard deviation, in standard deviations of the image.
        brightness_probability: Chance of a brightness factor.
        brightness: Its range.
        contrast_probability: Chance of a contrast factor.
        contrast: Its range.
        gamma_probability: Chance of a gamma curve.
        gamma: Range of its exponent.
        seed: First half of the key of every random number; the sample's number is the second half.
    """

    def __init__(
        self,
        spatial_probability: float = 0.0,
        rotation: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        mirror: str | Sequence[int] = (),
        noise_probability: float = 0.0,
        noise: Sequence[float] = (0.0, 0.0),
        brightness_probability: float = 0.0,
        brightness: Sequence[float] = (1.0, 1.0),
        contrast_probability: float = 0.0,
        contrast: Sequence[float] = (1.0, 1.0),
        gamma_probability: float = 0.0,
        gamma: Sequence[float] = (1.0, 1.0),
        seed: int = 0,
    ) -> None:
        self.rotation = math.radians(rotation)
        self.mirror = mirror
        self.spatial = (spatial_probability, scale, 1.0)
        self.noise = (noise_probability, noise, 0.0)
        self.brightness = (brightness_probability, brightness, 1.0)
        self.contrast = (contrast_probability, contrast, 1.0)
        self.gamma = (gamma_probability, gamma, 1.0)
        self.seed = seed

    def parameters(self, samples: Sequence[int], dims: int) -> Parameters:
        """Sample the parameters of a batch.

        Args:
            samples: The batch's sample numbers, unique over the whole training.
            dims: Spatial dimensions, 2 or 3.
        """
        rows = [self._row(sample, dims) for sample in samples]
        return Parameters(**{key: torch.from_numpy(np.stack([row[key] for row in rows])) for key in rows[0]})

    def _row(self, sample: int, dims: int) -> dict[str, np.ndarray]:
        # Every number is drawn whether it is used or not, so that one probability does not shift the others.
        random = generator(self.seed, sample, "augment")

        def choose(probability: float, span: Sequence[float], neutral: float) -> tuple[bool, np.float32]:
            chosen, value = random.random() < probability, random.uniform(span[0], span[1])
            return chosen, np.float32(value if chosen else neutral)

        moved, scale = choose(*self.spatial)
        axes = spatial.spatial_axes(self.mirror, dims, "augment.mirror")
        flips = random.random(dims) < 0.5
        return {
            "moved": np.asarray(moved),
            "scale": np.asarray(scale),
            "angles": random.uniform(-self.rotation, self.rotation, 1 if dims == 2 else 3).astype(np.float32),
            "flips": flips & np.isin(np.arange(dims), axes),
            "noise": np.asarray(choose(*self.noise)[1]),
            "brightness": np.asarray(choose(*self.brightness)[1]),
            "contrast": np.asarray(choose(*self.contrast)[1]),
            "gamma": np.asarray(choose(*self.gamma)[1]),
        }

    def __call__(
        self, image: Tensor, reference: Tensor, samples: Sequence[int], spacing: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch on the device it lies on.

        Args:
            image: (batch, channel, *spatial), normalised.
            reference: (batch, 1, *spatial) class indices.
            samples: The batch's sample numbers.
            spacing: Voxel size in mm, one a spatial axis.

        Returns:
            New image and reference of the same shapes.
        """
        drawn = self.parameters(samples, image.ndim - 2)
        image, reference = move(image, reference, drawn, spacing)
        if drawn.noise.any():
            generators = [torch.Generator().manual_seed(self._noise_seed(sample)) for sample in samples]
            image = intensity.add_noise(image, drawn.noise, generators)
        for name, change in (
            ("brightness", intensity.scale_brightness),
            ("contrast", intensity.scale_contrast),
            ("gamma", intensity.gamma),
        ):
            value = getattr(drawn, name)
            chosen = value != 1
            if chosen.any():
                rows = chosen.nonzero()[:, 0].to(image.device)
                image = image.index_copy(0, rows, change(image[rows], value[chosen].to(image.device)))
        return image, reference

    def _noise_seed(self, sample: int) -> int:
        return int(generator(self.seed, sample, "noise").integers(2**63))


def move(image: Tensor, reference: Tensor, drawn: Parameters, spacing: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Apply the spatial part of sampled parameters; samples that stay where they are cost nothing."""
    if drawn.moved.any():
        rows = drawn.moved.nonzero()[:, 0].to(image.device)
        moved, labels = spatial.rotate_and_scale(
            image[rows],
            reference[rows],
            drawn.angles[drawn.moved].to(image.device),
            drawn.scale[drawn.moved].to(image.device),
            spacing,
        )
        image, reference = image.index_copy(0, rows, moved), reference.index_copy(0, rows, labels)
    if drawn.flips.any():
        image, reference = spatial.mirror(image, drawn.flips), spatial.mirror(reference, drawn.flips)
    return image, reference
