"""A recipe: which augmentations with which probabilities, drawn from (seed, sample) so that any can be replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segment.augment.augmentation import Augmentation, Boxes
from segment.augment.changes import Change
from segment.augment.counter import field_generator, generator
from segment.augment.previous_mask import NNUNET, PreviousMask
from segment.augment.resampling import bspline_field, control_points, resample
from segment.augment.spatial import Motion, Spatial, moves_in_plane, source_extent, spatial_axes


@dataclass(frozen=True)
class Parameters:
    """Everything that is drawn for one sample, except fields of random numbers.

    Attributes:
        sample: Its number.
        motion: How it is resampled; None where it is not.
        flips: Which spatial axes are mirrored, after the motion.
        changes: Name to numbers of its intensity changes, (channels, 3), NaN for an unchanged channel; in the order in
            which they are applied.
    """

    sample: int
    motion: Motion | None
    flips: tuple[bool, ...]
    changes: Mapping[str, np.ndarray]


class Recipe(Augmentation):
    """Augments a batch on its device: one resampling, mirroring, then intensity changes.

    What is drawn for a sample is a function of (seed, sample number): it is the same in any batch, on any worker and
    whatever else is in the recipe. On a CPU the result is identical bit for bit.

    Args:
        spatial: Rotation, scale and elastic deformation; None for none.
        mirror: Spatial axes (array order) that may be flipped, each with probability 1/2; ``"all"`` or a list.
        changes: Intensity changes in the order they are applied. Their names are the second half of their
            key: adding, removing or altering one does not affect the random numbers of the others.
        dummy_2d: Whether motion and lower resolution skip the first axis of 3D patches; ``"auto"``: where the patch is
            more than three times as long as its first axis, as in nnU-Net.
        seed: First half of the key of every random number; the second half is the sample's number.
        previous: Changes of the first stage's mask, in the second stage of a cascade; None for none.
    """

    def __init__(
        self,
        spatial: Spatial | None = None,
        mirror: str | Sequence[int] = (),
        changes: Mapping[str, Change] | None = None,
        dummy_2d: bool | str = "auto",
        seed: int = 0,
        previous: PreviousMask | None = NNUNET,
    ) -> None:
        self.spatial = spatial
        self.mirror = mirror
        self.changes = {name: change for name, change in (changes or {}).items() if change is not None}
        self.dummy_2d = dummy_2d
        self.seed = seed
        self.previous = previous
        moves_in_plane((1, 1, 1), dummy_2d)  # raises for an unknown value

    def parameters(self, samples: Sequence[int], patch_size: Sequence[int], channels: int) -> list[Parameters]:
        """Draw the parameters of samples, one row per sample.

        Args:
            samples: Sample numbers, unique over the whole training.
            patch_size: Voxels per axis.
            channels: Image channels.
        """
        return [self._row(sample, patch_size, channels) for sample in samples]

    def extent(self, sample: int, patch_size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """Size in voxels of the box around a patch that a sample's motion takes its values from.

        Args:
            sample: The sample's number.
            patch_size: Voxels per axis.
            spacing: Voxel size in mm, one per axis.

        Returns:
            The patch's size where the sample is not moved; otherwise larger by an even number along each axis.
        """
        motion = self._motion(sample, patch_size)
        return tuple(patch_size) if motion is None else source_extent(motion, patch_size, spacing)

    def __call__(
        self,
        image: Boxes,
        reference: Boxes,
        samples: Sequence[int],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            image: One (channel, *box) per sample, normalised; the box is the patch or larger (see `extent`).
            reference: One (1, *box) per sample, uint8 class indices; 255 (not annotated) is one more class. With the
                first stage's mask of a cascade as (2, *box).
            samples: The batch's sample numbers.
            spacing: Voxel size in mm, one per spatial axis.
            patch_size: Voxels of the result, one per spatial axis.

        Returns:
            New tensors (batch, channel, *patch) and (batch, 1 or 2, *patch).
        """
        channels = image[0].shape[0]
        images = image[0].new_empty(len(samples), channels, *patch_size)
        references = reference[0].new_empty(len(samples), len(reference[0]), *patch_size)
        in_plane = moves_in_plane(patch_size, self.dummy_2d)
        for i, drawn in enumerate(self.parameters(samples, patch_size, channels)):
            moved = self.move(image[i], reference[i], drawn, spacing, patch_size)
            flipped = [axis + 1 for axis, flip in enumerate(drawn.flips) if flip]
            for result, part in zip((images, references), moved, strict=True):
                result[i] = part.flip(flipped) if flipped else part
            for name, numbers in drawn.changes.items():
                field = field_generator(self.seed, drawn.sample, f"augment {name}", images.device)
                self.changes[name].apply(images[i], numbers, field, in_plane)
            if self.previous is not None and references.shape[1] == 2:
                mask = references[i, 1]
                mask.copy_(torch.from_numpy(self.previous(mask.cpu().numpy(), self.seed, drawn.sample)))
        return images, references

    def words(self, sample: int, patch_size: Sequence[int], channels: int) -> list[str]:
        """Describe what happens to a sample, for a caption: one phrase per change; empty where nothing happens.

        Args:
            sample: The sample's number.
            patch_size: Voxels per axis.
            channels: Image channels.
        """
        drawn = self._row(sample, patch_size, channels)
        phrases = drawn.motion.words() if drawn.motion is not None else []
        axes = [axis for axis, flip in zip("zyx"[-len(patch_size) :], drawn.flips, strict=True) if flip]
        phrases += [f"mirrored {' '.join(axes)}"] if axes else []
        return phrases + [self.changes[name].words(numbers) for name, numbers in drawn.changes.items()]

    def move(
        self, image: Tensor, reference: Tensor, drawn: Parameters, spacing: Sequence[float], patch_size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Cut the patch out of one sample's box, applying its motion if it has one.

        Args:
            image: (channel, *box).
            reference: (1 or 2, *box).
            drawn: The sample's parameters.
            spacing: Voxel size in mm.
            patch_size: Voxels of the result.
        """
        motion, axes = drawn.motion, len(patch_size)
        if motion is not None:
            axes -= motion.axes
        corner = [(box - size) // 2 for box, size in zip(image.shape[1:], patch_size, strict=True)]
        for axis in range(axes):
            image, reference = (part.narrow(axis + 1, corner[axis], patch_size[axis]) for part in (image, reference))
        if motion is None:
            return image, reference
        moving = tuple(patch_size[axes:])
        displacement, largest = self._displacement(drawn.sample, motion, moving, spacing[axes:], image.device)
        # Slices that move in plane are treated like channels.
        parts = image.reshape(-1, *image.shape[axes + 1 :]), reference.reshape(-1, *reference.shape[axes + 1 :])
        moved = resample(*parts, motion.matrix(spacing), moving, displacement, largest)
        return moved[0].view(image.shape[0], *patch_size), moved[1].view(reference.shape[0], *patch_size)

    def _row(self, sample: int, patch_size: Sequence[int], channels: int) -> Parameters:
        dims = len(patch_size)
        allowed = spatial_axes(self.mirror, dims, "augment.mirror")
        # Every number is drawn even if unused, so that one choice does not affect the others.
        flips = generator(self.seed, sample, "augment mirror").random(3)[:dims] < 0.5
        drawn = {
            name: change.draw(generator(self.seed, sample, f"augment {name}"), channels)
            for name, change in self.changes.items()
        }
        return Parameters(
            sample,
            self._motion(sample, patch_size),
            tuple(bool(flip) and axis in allowed for axis, flip in enumerate(flips)),
            {name: numbers for name, numbers in drawn.items() if numbers is not None},
        )

    def _motion(self, sample: int, patch_size: Sequence[int]) -> Motion | None:
        if self.spatial is None:
            return None
        return self.spatial.draw(self.seed, sample, patch_size, moves_in_plane(patch_size, self.dummy_2d))

    def _displacement(
        self, sample: int, motion: Motion, shape: Sequence[int], spacing: Sequence[float], device: torch.device
    ) -> tuple[Tensor | None, list[float] | None]:
        """Displacement field of a sample in voxels (axes, *shape) and what it does not exceed along each axis."""
        if not motion.elastic_spacing * motion.elastic_strength:
            return None, None
        mm = np.asarray(spacing, float)
        distance = motion.elastic_spacing * (np.asarray(shape) * mm).max()
        random = generator(self.seed, sample, "augment elastic field")
        control = random.uniform(-1, 1, (len(shape), *control_points(shape, distance / mm)))
        control *= motion.elastic_strength * distance / mm.reshape(-1, *[1] * len(shape))
        largest = np.abs(control).reshape(len(shape), -1).max(axis=1).tolist()
        return bspline_field(control, shape, distance / mm, device), largest
