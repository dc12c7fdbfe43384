import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oriented import SHAPE, affine_of

from segment.io.geometry import (
    Grid,
    canonical_grid,
    canonical_spacing,
    from_canonical,
    grid_difference,
    same_voxels,
    to_canonical,
)

CODES = ["".join(c) for order in itertools.permutations(["LR", "PA", "IS"]) for c in itertools.product(*order)]


def test_grid_difference_says_what_differs_with_numbers():
    grid = Grid(SHAPE, affine_of("RAS", tilt=(0, 0, 0)))
    assert grid_difference(grid, Grid(SHAPE, grid.affine + 1e-6)) == ""
    assert grid_difference(grid, Grid((4, 5, 7), grid.affine)) == "shape (4, 5, 6) versus (4, 5, 7)"
    moved = grid.affine.copy()
    moved[0, 3] += 5
    assert "origin (7, -11, 13) versus (12, -11, 13) mm" in grid_difference(grid, Grid(SHAPE, moved))
    turned = Grid(SHAPE, affine_of("LAS", tilt=(0, 0, 0)))
    assert "direction" in grid_difference(grid, turned)
    assert "up to 15 mm apart" in grid_difference(grid, turned)
    assert grid_difference(grid, Grid(SHAPE, moved), tolerance=4) == ""


@settings(max_examples=60, deadline=None)
@given(
    codes=st.sampled_from(CODES),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    tilt=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    channels=st.integers(0, 2),
)
def test_canonical_axes_and_back(codes, spacing, tilt, shape, channels):
    grid = Grid(shape, affine_of(codes, spacing, tilt))
    whole = (channels, *shape) if channels else shape
    array = np.arange(np.prod(whole)).reshape(whole)
    turned = to_canonical(array, grid)
    np.testing.assert_array_equal(from_canonical(turned, grid), array)
    canonical = canonical_grid(grid)
    assert turned.shape[-3:] == canonical.shape
    assert canonical_spacing(grid) == pytest.approx(canonical.spacing)
    # Up to 0.3 rad about three axes the nearest anatomical axis can change, but the axes never leave the RAS+ half.
    assert "".join(nib.aff2axcodes(canonical.affine)) == "RAS"
    # Every voxel stays where it is in the body.
    flat = turned.reshape(-1, *canonical.shape)[0]
    for value in {0, int(np.prod(shape)) - 1, int(np.prod(shape)) // 2}:
        z, y, x = np.unravel_index(value, shape)
        (k, j, i) = np.argwhere(flat == value)[0]
        np.testing.assert_allclose(canonical.affine @ [i, j, k, 1], grid.affine @ [x, y, z, 1], atol=1e-6)


def test_canonical_axes_run_up_forward_right(tmp_path):
    # Stored as PIR: x runs backward, y down, z to the right.
    grid = Grid(SHAPE, affine_of("PIR", spacing=(1.0, 2.0, 3.0), tilt=(0, 0, 0)))
    array = np.zeros(SHAPE)
    array[:, 0, :] = 1  # y = 0 is the top
    array[:, :, 0] += 10  # x = 0 is the front
    array[-1] += 100  # the last z is the right
    turned = to_canonical(array, grid)
    assert turned.shape == (5, 6, 4)
    assert canonical_spacing(grid) == pytest.approx((2.0, 1.0, 3.0))
    assert (turned[-1] % 10 == 1).all()
    assert (turned[:, -1] % 100 // 10 == 1).all()
    assert (turned[:, :, -1] // 100 == 1).all()
    assert turned.flags.c_contiguous


def test_2d_arrays_stay_unchanged():
    grid = Grid((3, 4), np.diag([-2.0, -1.0, 1.0, 1.0]))
    array = np.arange(24).reshape(2, 3, 4)
    assert to_canonical(array, grid) is array
    assert from_canonical(array, grid) is array
    assert canonical_spacing(grid) == (1.0, 2.0)
    with pytest.raises(ValueError, match="shape"):
        to_canonical(array[:, :2], grid)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_grids_with_the_same_voxels_are_known_whatever_the_order_of_their_axes(codes):
    grid = Grid(SHAPE, affine_of("RAS"))
    image = nib.Nifti1Image(np.zeros(SHAPE[::-1], np.uint8), grid.affine)
    turned = image.as_reoriented(nib.orientations.ornt_transform(
        nib.io_orientation(grid.affine), nib.orientations.axcodes2ornt(codes)))  # fmt: skip
    other = Grid(turned.shape[::-1], turned.affine)
    assert same_voxels(grid, other)
    moved = other.affine.copy()
    moved[:3, 3] += 0.1
    assert not same_voxels(grid, Grid(other.shape, moved))
    assert not same_voxels(grid, Grid((5, 6), np.eye(4)))
