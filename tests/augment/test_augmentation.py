"""Optional parts of a custom augmentation."""

import torch
from torch import nn

from segment.augment.augmentation import Augmentation, complete
from segment.augment.recipe import Recipe


def brighter(image, reference, samples, spacing, patch_size):
    return image + 1, reference


class Wide(nn.Module):
    def extent(self, sample, patch_size, spacing):
        return [size + 2 for size in patch_size]

    def forward(self, image, reference, *_):
        return image[..., 1:-1, 1:-1], reference[..., 1:-1, 1:-1]


def test_plain_function_receives_the_patch_and_has_no_description():
    made = complete(brighter)
    image, reference = made(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), [3], (1.0, 1.0), (4, 4))
    assert image.unique().tolist() == [1]
    assert reference.unique().tolist() == [0]
    assert tuple(made.extent(3, (4, 4), (1.0, 1.0))) == (4, 4)
    assert made.words(3, (4, 4), 1) is None


def test_existing_methods_are_kept():
    wide = Wide()
    made = complete(wide)
    assert made.extent(3, (4, 4), (1.0, 1.0)) == [6, 6]
    assert made.words(3, (4, 4), 1) is None
    assert wide in list(made.modules())  # goes to the device with the network
    assert made(torch.zeros(1, 1, 6, 6), torch.zeros(1, 1, 6, 6), [3], (1.0, 1.0), (4, 4))[0].shape[-2:] == (4, 4)


def test_complete_augmentation_is_returned_unchanged():
    class Mine(Augmentation):
        def __call__(self, image, reference, samples, spacing, patch_size):
            return image, reference

    for made in (Recipe(), Mine(), None):
        assert complete(made) is made
    assert Mine().extent(0, (4, 4), (1.0, 1.0)) == (4, 4)
