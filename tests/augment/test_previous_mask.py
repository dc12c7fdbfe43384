"""The augmentation of a first stage's mask."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segment.augment.previous_mask import NNUNET, PreviousMask, closed, dilated, eroded, opened
from segment.augment.recipe import Recipe
from segment.augment.spatial import Spatial
from segment.errors import UserError

NEVER = PreviousMask(operator_probability=0, removal_probability=0)


def blobs(seed: int, shape: tuple[int, ...] = (14, 20, 17)) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return np.digitize(smooth, np.quantile(smooth, [0.7, 0.85])).astype(np.uint8)


def ball(radius: float, dims: int) -> np.ndarray:
    reach = int(radius)
    axes = np.meshgrid(*[np.arange(-reach, reach + 1)] * dims, indexing="ij")
    return sum(axis**2 for axis in axes) <= radius**2


@pytest.mark.parametrize("shape", [(14, 20, 17), (24, 30)])
@pytest.mark.parametrize("radius", [1.0, 2.5, 4.2])
def test_operators_equal_those_of_scipy_with_a_ball(shape, radius):
    mask, element = blobs(0, shape) == 2, ball(radius, len(shape))
    dilation, erosion = ndimage.binary_dilation, ndimage.binary_erosion
    np.testing.assert_array_equal(dilated(mask, radius), dilation(mask, element))
    np.testing.assert_array_equal(eroded(mask, radius), erosion(mask, element, border_value=1))
    np.testing.assert_array_equal(opened(mask, radius), dilation(erosion(mask, element, border_value=1), element))
    np.testing.assert_array_equal(closed(mask, radius), erosion(dilation(mask, element), element, border_value=1))
    assert not dilated(np.zeros(shape, bool), radius).any()


@settings(max_examples=20)
@given(st.integers(0, 50))
def test_a_mask_is_a_function_of_seed_and_sample(sample):
    mask = blobs(sample % 3)
    first, again = (PreviousMask()(mask, 7, sample) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(mask, blobs(sample % 3))  # not changed
    assert set(np.unique(first)) <= set(np.unique(mask))


def test_the_box_of_a_label_is_enough():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:14, 10:16], mask[12, 30:33] = 1, 2
    always = PreviousMask(operator_probability=1, radius=(3, 3), removal_probability=0)
    for sample in range(20):
        small = always(mask, 0, sample)
        padded = always(np.pad(mask, 30), 0, sample)[30:-30, 30:-30]
        np.testing.assert_array_equal(small, padded)


def test_nnunets_shares_of_changed_patches():
    mask = blobs(1)
    changed = [NNUNET(mask, 0, sample) for sample in range(200)]
    assert np.mean([(one != mask).any() for one in changed]) == pytest.approx(1 - 0.6 * 0.8, abs=0.08)


def test_one_small_component_of_each_label_is_removed_and_no_large_one():
    mask = np.zeros((20, 20), np.uint8)
    mask[:, :4] = 1  # a fifth of the patch
    mask[0, 10], mask[5, 10], mask[9:11, 15] = 1, 1, 2
    removing = PreviousMask(operator_probability=0, removal_probability=1)
    found = {removing(mask, 0, sample).tobytes() for sample in range(30)}
    expected = [mask.copy(), mask.copy()]
    for one, row in zip(expected, (0, 5), strict=True):
        one[row, 10], one[9:11, 15] = 0, 0
    assert found == {one.tobytes() for one in expected}


def test_a_recipe_moves_the_mask_with_the_reference_and_then_changes_it():
    masks = torch.from_numpy(np.stack([blobs(0), blobs(1)]))[:, None]
    image = torch.randn(2, 1, *masks.shape[2:])
    spatial = Spatial(rotation_probability=1, scale_probability=1, scale=(0.8, 1.2))
    size = (12, 16, 15)
    both = torch.cat([masks, masks], dim=1)
    _, moved = Recipe(spatial, "all", previous=NEVER)(image, both, [3, 4], (1, 1, 1), size)
    _, alone = Recipe(spatial, "all")(image, masks, [3, 4], (1, 1, 1), size)
    assert torch.equal(moved[:, 1:], alone)
    assert torch.equal(moved[:, :1], alone)
    always = PreviousMask(operator_probability=1)
    _, changed = Recipe(spatial, "all", previous=always, seed=5)(image, both, [3, 4], (1, 1, 1), size)
    _, before = Recipe(spatial, "all", previous=None, seed=5)(image, both, [3, 4], (1, 1, 1), size)
    assert torch.equal(changed[:, 0], before[:, 0])
    np.testing.assert_array_equal(changed[1, 1].numpy(), always(before[1, 1].numpy(), 5, 4))
    assert not torch.equal(changed[:, 1], before[:, 1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"removal_below": 2}, "augment.previous.removal_below=2"), ({"radius": (3, 1)}, "augment.previous.radius")],
)
def test_values_out_of_range_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        PreviousMask(**changes)
