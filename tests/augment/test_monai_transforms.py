import pytest
import torch
from monai.transforms import RandAffined, RandFlip, RandFlipd, RandGaussianNoised, SpatialPadd

from segment.augment.monai_transforms import MonaiTransforms
from segment.errors import UserError

PATCH = (8, 10, 9)


def transforms(seed=0):
    return MonaiTransforms(
        [
            RandFlipd(["image", "label"], prob=0.5, spatial_axis=1),
            RandAffined(["image", "label"], prob=0.5, rotate_range=0.4, mode=["bilinear", "nearest"]),
            RandGaussianNoised(["image"], prob=0.5, std=0.5),
        ],
        seed,
    )


def test_sample_depends_on_its_number_and_the_seed_but_not_on_the_batch():
    image, reference = torch.randn(1, 1, *PATCH).expand(6, -1, -1, -1, -1), torch.zeros(6, 1, *PATCH).byte()
    reference[:, :, 2:5] = 255
    together = transforms()(image, reference, range(6), (1, 1, 1), PATCH)
    assert together[1].dtype == torch.uint8
    assert set(together[1].unique().tolist()) == {0, 255}
    again = transforms()
    for sample in (4, 1, 5):
        alone = again(image[:1], reference[:1], [sample], (1, 1, 1), PATCH)
        assert torch.equal(alone[0][0], together[0][sample])
        assert torch.equal(alone[1][0], together[1][sample])
    assert len({float(part.sum()) for part in together[0]}) > 3
    assert not torch.equal(transforms(1)(image, reference, range(6), (1, 1, 1), PATCH)[0], together[0])


def test_image_and_reference_are_flipped_together_and_inputs_stay_unchanged():
    image = torch.rand(4, 1, *PATCH)
    reference = (image * 200).to(torch.uint8)
    before = image.clone()
    flip = MonaiTransforms([RandFlipd(["image", "label"], prob=1, spatial_axis=0)])
    flipped, labels = flip(image, reference, range(4), (1, 1, 1), PATCH)
    assert torch.equal(flipped, image.flip(2))
    assert torch.equal(labels, reference.flip(2))
    assert torch.equal(image, before)
    assert type(flipped) is torch.Tensor


def test_invalid_arguments_are_refused():
    with pytest.raises(UserError, match=r"RandFlip is not a dictionary transform.*RandFlipd"):
        MonaiTransforms([RandFlip()])
    grow = MonaiTransforms([SpatialPadd(["image", "label"], [12, 12, 12])])
    image = torch.rand(1, 1, *PATCH)
    with pytest.raises(UserError, match=r"8, 10, 9.*became \[12, 12, 12\]"):
        grow(image, image.byte(), [0], (1, 1, 1), PATCH)
