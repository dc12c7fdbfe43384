import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.augment.spatial import mirror, rotate_and_scale, rotation_matrix, spatial_axes
from segment.errors import UserError

# Angles turn about x, y, z in this order; these are the array axes (z, y, x) of each one's plane.
PLANES = [(0, 1), (0, 2), (1, 2)]
angle = st.floats(-math.pi, math.pi)


def positions_mm(shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """(axes, *shape) distances of voxel centres from the centre of the patch in mm."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def ball(shape, spacing, centre, radius) -> torch.Tensor:
    """(1, 1, *shape) uint8, a ball in mm about a point given relative to the centre of the patch."""
    offset = positions_mm(shape, spacing) - np.reshape(centre, (-1, *[1] * len(shape)))
    return torch.from_numpy((np.sqrt((offset**2).sum(axis=0)) < radius).astype(np.uint8))[None, None]


def centre_mm(mask: torch.Tensor, spacing) -> np.ndarray:
    inside = mask[0, 0].numpy() > 0
    return positions_mm(inside.shape, spacing)[:, inside].mean(axis=1)


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return 2 * float(((a > 0) & (b > 0)).sum()) / float((a > 0).sum() + (b > 0).sum())


def turn(image, reference, angles, scale=1.0, spacing=None):
    dims = image.ndim - 2
    return rotate_and_scale(image, reference, torch.tensor([angles]), torch.tensor([scale]), spacing or (1.0,) * dims)


@settings(max_examples=30, deadline=None)
@given(st.lists(angle, min_size=1, max_size=1) | st.lists(angle, min_size=3, max_size=3))
def test_rotation_matrices_are_rotations(angles):
    matrix = rotation_matrix(torch.tensor([angles, angles], dtype=torch.float64))
    identity = torch.eye(len(matrix[0]), dtype=torch.float64).expand_as(matrix)
    torch.testing.assert_close(matrix @ matrix.mT, identity)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(("dims", "axis"), [(2, 0), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_of_a_cube_are_those_of_numpy(dims, axis, quarters):
    image = torch.rand(1, 2, *[7] * dims)
    reference = torch.randint(0, 4, (1, 1, *[7] * dims), dtype=torch.uint8)
    angles = [0.0] * (1 if dims == 2 else 3)
    angles[axis] = quarters * math.pi / 2
    moved, labels = turn(image, reference, angles)
    plane = (0, 1) if dims == 2 else PLANES[axis]
    # The sense of a turn is a convention of no consequence, as angles are drawn from both sides of 0.
    agreeing = [
        sense
        for sense in (1, -1)
        if torch.equal(labels, torch.rot90(reference, sense * quarters, [a + 2 for a in plane]))
        and torch.allclose(moved, torch.rot90(image, sense * quarters, [a + 2 for a in plane]), atol=1e-5)
    ]
    assert agreeing


@pytest.mark.parametrize("shape", [(9, 12), (5, 8, 6)])
def test_neutral_parameters_change_nothing(shape):
    image, reference = torch.randn(1, 2, *shape), torch.randint(0, 4, (1, 1, *shape), dtype=torch.uint8)
    angles, spacing = [0.0] * (1 if len(shape) == 2 else 3), tuple(range(1, len(shape) + 1))
    moved, labels = turn(image, reference, angles, spacing=spacing)
    torch.testing.assert_close(moved, image, rtol=0, atol=1e-5)
    assert torch.equal(labels, reference)
    assert labels.dtype == reference.dtype


@pytest.mark.parametrize(("shape", "spacing"), [((20, 64), (3.0, 1.25)), ((12, 22, 14), (3.0, 1.0, 1.5))])
@settings(max_examples=20, deadline=None)
@given(angles=st.lists(angle, min_size=3, max_size=3), scale=st.floats(0.7, 1.4))
def test_rotation_is_rigid_in_mm_and_image_and_reference_move_together(shape, spacing, angles, scale):
    # An image of its own coordinates in mm tells where each voxel came from, free of interpolation error.
    where = torch.from_numpy(positions_mm(shape, spacing)).float()
    reference = torch.randint(0, 250, (1, 1, *shape), dtype=torch.uint8)
    moved, labels = turn(where[None], reference, angles[: 1 if len(shape) == 2 else 3], scale, spacing)
    reach = min(n * mm for n, mm in zip(shape, spacing, strict=True)) / 2 - max(spacing)
    inside = where.norm(dim=0) / scale < reach
    source = moved[0][:, inside]
    torch.testing.assert_close(source.norm(dim=0), where[:, inside].norm(dim=0) / scale, rtol=1e-3, atol=1e-2)
    index = source / torch.tensor(spacing)[:, None] + (torch.tensor(shape)[:, None] - 1) / 2
    clear = (index - index.round()).abs().amax(dim=0) < 0.49  # not halfway between two voxels
    nearest = reference[0, 0][tuple(index[:, clear].round().long())]
    assert clear.any()
    assert torch.equal(labels[0, 0][inside][clear], nearest)


@settings(max_examples=10, deadline=None)
@given(angle, angle, angle)
def test_a_ball_in_mm_stays_a_ball_where_voxels_are_not_cubes(a, b, c):
    shape, spacing, centre = (18, 42, 24), (3.0, 1.0, 1.5), np.array([5.0, -6.0, 4.0])
    reference = ball(shape, spacing, centre, 9)
    _, labels = turn(reference.float(), reference, [a, b, c], spacing=spacing)
    there = centre_mm(labels, spacing)
    assert np.linalg.norm(there) == pytest.approx(np.linalg.norm(centre), abs=0.6)
    assert dice(labels, ball(shape, spacing, there, 9)) > 0.9


def test_scale_two_doubles_a_diameter():
    small, large = ball((24, 24, 24), (1, 1, 1), (0, 0, 0), 4), ball((24, 24, 24), (1, 1, 1), (0, 0, 0), 8)
    moved, labels = turn(small.float(), small, [0.0] * 3, scale=2.0)
    assert [int(labels[0, 0].amax(dim=axes).sum()) for axes in ((1, 2), (0, 2), (0, 1))] == [16, 16, 16]
    assert dice(labels, large) > 0.9
    assert dice(moved > 0.5, large) > 0.9


def test_beyond_the_patch_the_border_is_repeated_and_the_reference_is_background():
    image, reference = torch.full((1, 1, 8, 8), 3.0), torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    moved, labels = turn(image, reference, [math.pi / 4], scale=0.5)
    torch.testing.assert_close(moved, image)
    assert labels[0, 0, 0, 0] == 0
    assert labels[0, 0, 4, 4] == 1


def test_each_sample_is_moved_by_its_own_parameters():
    image, reference = torch.rand(2, 1, 8, 8), torch.randint(0, 3, (2, 1, 8, 8), dtype=torch.uint8)
    angles, scale = torch.tensor([[0.3], [-0.8]]), torch.tensor([1.0, 0.8])
    together = rotate_and_scale(image, reference, angles, scale, (1.0, 1.0))
    for i in range(2):
        rows = slice(i, i + 1)
        alone = rotate_and_scale(image[rows], reference[rows], angles[rows], scale[rows], (1.0, 1.0))
        torch.testing.assert_close(together[0][rows], alone[0])
        assert torch.equal(together[1][rows], alone[1])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_mirror_is_numpy_flip_of_each_sample(data):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=3))
    flips = data.draw(
        st.lists(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)), min_size=2, max_size=3)
    )
    volume = torch.rand(len(flips), 2, *shape)
    mirrored = mirror(volume, torch.tensor(flips))
    for sample, row, result in zip(volume, flips, mirrored, strict=True):
        axes = tuple(axis + 1 for axis, flip in enumerate(row) if flip)
        np.testing.assert_array_equal(result, np.flip(sample.numpy(), axes))
    assert torch.equal(mirror(mirrored, torch.tensor(flips)), volume)


@pytest.mark.parametrize(
    ("wanted", "dims", "axes"), [("all", 3, [0, 1, 2]), ("all", 2, [0, 1]), ([2], 3, [2]), ([], 2, [])]
)
def test_axes_by_word_or_list(wanted, dims, axes):
    assert spatial_axes(wanted, dims, "key") == axes


@pytest.mark.parametrize(("wanted", "dims"), [([2], 2), ([-1], 3), ("xy", 2), ([0.5], 2)])
def test_an_axis_that_is_not_there_is_named(wanted, dims):
    with pytest.raises(UserError, match=r"augment\.mirror"):
        spatial_axes(wanted, dims, "augment.mirror")
