"""MONAI's dictionary transforms instead of a recipe, seeded per sample so that they can be replayed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.transforms import Compose, MapTransform
from monai.utils import convert_to_tensor
from torch import Tensor

from segment.augment.augmentation import Augmentation, Boxes
from segment.augment.counter import generator
from segment.errors import UserError


class MonaiTransforms(Augmentation):
    """Applies MONAI's random dictionary transforms to each patch; the keys are ``image`` and ``label``.

    Transforms get patches of the plan's size, not a larger box: values from outside come from their padding mode.
    References are resampled with the transform's mode; set it to ``nearest`` for them.

    Args:
        transforms: Dictionary transforms, applied in order.
        seed: First half of the key of their random state; the second half is the sample's number.

    Raises:
        UserError: When one is not a dictionary transform.
    """

    def __init__(self, transforms: Sequence[MapTransform], seed: int = 0) -> None:
        for transform in transforms:
            if not isinstance(transform, MapTransform):
                raise UserError(
                    f"augment.transforms: {type(transform).__name__} is not a dictionary transform. MONAI's end in d: "
                    "RandFlipd, with keys: [image, label]."
                )
        self.transforms = Compose(transforms)
        self.seed = seed

    def __call__(
        self,
        image: Boxes,
        reference: Boxes,
        samples: Sequence[int],
        spacing: Sequence[float],
        patch_size: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Transform a batch.

        Args:
            image: One (channel, *patch) per sample.
            reference: One (1, *patch) per sample, uint8 class indices.
            samples: The batch's sample numbers.
            spacing: Voxel size in mm; MONAI's transforms count in voxels.
            patch_size: Voxels per axis, which the transforms must preserve.

        Returns:
            New tensors (batch, channel, *patch) and (batch, 1, *patch) uint8.

        Raises:
            UserError: When a transform changes the size.
        """
        images: list[Tensor] = []
        references: list[Tensor] = []
        for sample, patch, mask in zip(samples, image, reference, strict=True):
            self.transforms.set_random_state(seed=int(generator(self.seed, sample, "monai").integers(2**32)))
            changed = self.transforms({"image": patch.clone(), "label": mask.clone()})
            for parts, key, before in ((images, "image", patch), (references, "label", mask)):
                # Back to a plain tensor: MONAI's tensors record every transform.
                parts.append(convert_to_tensor(changed[key], dtype=before.dtype, device=before.device))
            if {tuple(patch_size)} != {tuple(part[-1].shape[1:]) for part in (images, references)}:
                raise UserError(
                    f"augment.transforms: a patch of {list(patch_size)} voxels became {list(images[-1].shape[1:])}, "
                    f"its reference {list(references[-1].shape[1:])}. Remove the transform that changes the size."
                )
        return torch.stack(images), torch.stack(references)
