"""Contours of masks with holes, filled in three ways."""

import numpy as np
import pytest
from matplotlib.path import Path
from scipy import ndimage
from skimage.draw import polygon

from segment.io.dicom.contours import contours_of


@pytest.mark.parametrize("smooth", [False, True])
def test_filling_the_contours_gives_the_mask_whatever_the_rule(smooth):
    rng, holes = np.random.default_rng(0), 0
    for _ in range(40):
        size = rng.integers(3, 30)
        noise = rng.random((size, size + 3))
        mask = ndimage.gaussian_filter(noise, 1.2) > 0.5 if smooth else noise < rng.uniform(0.2, 0.95)
        odd, union, inside = (np.zeros(mask.shape, bool) for _ in range(3))
        centres = np.argwhere(np.ones(mask.shape))
        for line in contours_of(mask):
            filled = polygon(line[:, 0], line[:, 1], mask.shape)
            odd[filled] ^= True
            union[filled] = True
            inside |= Path(line).contains_points(centres).reshape(mask.shape)
        for found in (odd, union, inside):
            np.testing.assert_array_equal(found, mask)
        holes += ndimage.label(~np.pad(mask, 1))[1] - 1
    assert holes > 20


def test_an_empty_mask_has_no_contour():
    assert contours_of(np.zeros((4, 5), bool)) == []
