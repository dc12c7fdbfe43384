import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segment.preprocessing import resample
from segment.preprocessing.resample import coarse_axis, resample_image, resample_labels

shapes = st.tuples(*[st.integers(1, 24)] * 3)


def zoomed(array: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """The whole array at once, as skimage's ``resize(mode="edge", anti_aliasing=False)`` does it."""
    zoom = [new / old for new, old in zip(shape, array.shape, strict=True)]
    result = ndimage.zoom(array.astype(float), zoom, order=order, mode="nearest", grid_mode=True)
    return np.clip(result, array.min(), array.max())


@settings(max_examples=60, deadline=None)
@given(shapes, shapes, st.integers(0, 99))
def test_separable_products_are_the_spline_of_the_whole_array(old, new, seed):
    image = np.random.default_rng(seed).normal(size=(2, *old)).astype(np.float32)
    found = resample_image(image, new, None)
    assert found.dtype == np.float32
    expected = np.stack([zoomed(channel, new, 3) for channel in image])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_separable_products_in_bands_are_the_same(monkeypatch):
    image = np.random.default_rng(0).normal(size=(1, 150, 9, 200)).astype(np.float32)
    whole = resample_image(image, (290, 5, 133), None)
    np.testing.assert_allclose(whole[0], zoomed(image[0], (290, 5, 133), 3), atol=1e-5)
    monkeypatch.setattr(resample, "SLAB", 9 * 200 * 7)  # a few slices at a time
    np.testing.assert_allclose(resample_image(image, (290, 5, 133), None), whole, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(shapes, shapes, st.integers(0, 2))
def test_a_coarse_axis_takes_the_nearest_of_slices_that_are_resampled_alone(old, new, coarse):
    image = np.random.default_rng(0).normal(size=(1, *old)).astype(np.float32)
    flat = tuple(size for axis, size in enumerate(new) if axis != coarse)
    slices = np.stack([zoomed(slice_, flat, 3) for slice_ in np.moveaxis(image[0], coarse, 0)])
    middles = (np.arange(new[coarse]) + 0.5) * (old[coarse] / new[coarse]) - 0.5
    taken = ndimage.map_coordinates(np.arange(old[coarse]), [middles], order=0, mode="nearest")
    expected = np.moveaxis(slices[taken], 0, coarse)
    np.testing.assert_allclose(resample_image(image, new, coarse)[0], expected, atol=1e-5)


def test_flat_images_are_resampled_in_their_plane():
    image = np.random.default_rng(0).normal(size=(3, 20, 31)).astype(np.float32)
    expected = np.stack([zoomed(channel, (33, 17), 3) for channel in image])
    np.testing.assert_allclose(resample_image(image, (33, 17), None), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((3.6, 0.6, 0.6), (3.6, 0.5, 0.5), 0),
        ((0.6, 0.6, 3.6), (1.0, 1.0, 1.0), 2),
        ((1.0, 1.0, 1.0), (0.5, 2.0, 0.5), 1),  # the target decides where the scan's own voxels are near cubes
        ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0), None),  # three times is not more than three times
        ((2.0, 2.0, 0.5), (4.0, 1.0, 1.0), None),  # two axes are equally coarse
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),
    ],
)
def test_coarse_axis_is_found(spacing, target, axis):
    assert coarse_axis(spacing, target) == axis


@settings(max_examples=60, deadline=None)
@given(shapes, shapes, st.integers(0, 99))
def test_labels_go_to_the_largest_share(old, new, seed):
    labels = np.random.default_rng(seed).choice([0, 3, 7, 255], old).astype(np.uint8)
    found = resample_labels(labels, new, None)
    shares = np.stack([zoomed(labels == value, new, 1) for value in range(256) if value in (0, 3, 7, 255)])
    best = np.sort(shares, axis=0)
    clear = best[-1] - best[-2] > 1e-6
    np.testing.assert_array_equal(found[clear], np.array([0, 3, 7, 255])[shares.argmax(axis=0)][clear])
    assert set(np.unique(found)) <= set(np.unique(labels))


def test_equal_shares_go_to_the_nearest_label():
    # Halved: each new voxel lies between two old ones, and the nearest is the upper.
    np.testing.assert_array_equal(resample_labels(np.uint8([[1, 0, 0, 1]]), (1, 2), None), [[0, 1]])
    # The nearest has lost against two that are equal: the least of them.
    corner = np.uint8([[[2, 2], [1, 1]], [[1, 1], [2, 9]]])
    assert resample_labels(corner, (1, 1, 1), None).tolist() == [[[1]]]


def test_labels_do_not_depend_on_slabs_and_follow_the_coarse_axis(monkeypatch):
    labels = ndimage.zoom(np.random.default_rng(0).integers(0, 4, (4, 5, 6)), 6, order=0).astype(np.uint8)
    whole = [resample_labels(labels, (17, 41, 30), axis) for axis in (None, 0, 1, 2)]
    assert any((whole[0] != other).any() for other in whole[1:])
    slices = np.stack([resample_labels(np.ascontiguousarray(slice_), (41, 30), None) for slice_ in labels])
    np.testing.assert_array_equal(whole[1], slices[resample.nearest(24, 17)])
    monkeypatch.setattr(resample, "SLAB", 2000)
    for axis, expected in zip((None, 0, 1, 2), whole, strict=True):
        np.testing.assert_array_equal(resample_labels(labels, (17, 41, 30), axis), expected)


def test_an_equal_shape_is_the_same_array():
    image, labels = np.zeros((1, 3, 4, 5), np.float32), np.zeros((3, 4, 5), np.uint8)
    assert resample_image(image, (3, 4, 5), None) is image
    assert resample_labels(labels, (3, 4, 5), 0) is labels
