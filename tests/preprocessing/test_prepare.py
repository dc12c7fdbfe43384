import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from segment.data.geometry import Grid, canonical_grid, canonical_spacing, to_canonical
from segment.data.images import Image
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import prepare_image, prepare_reference, restore


def one_hot(classes: np.ndarray, n: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([classes == index for index in range(n)]).astype(np.float32))


def largest(scores: torch.Tensor) -> torch.Tensor:
    return scores.argmax(dim=0).to(torch.uint8)


def plan_of(spacing, channels: int = 1, normalization: str = "zscore") -> Plan:
    return Plan(tuple(spacing), (8,) * len(spacing), 1, (normalization,) * channels)


@st.composite
def grids(draw, most: int = 7) -> Grid:
    """Any order and direction of the axes, slightly tilted, with voxels that are not cubes."""
    shape = draw(st.tuples(*[st.integers(1, most)] * 3))
    order, signs = draw(st.permutations(range(3))), draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 5)] * 3))
    turn = np.zeros((3, 3))
    turn[list(order), range(3)] = signs
    tilt = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-0.2, 0.2)] * 3))).as_matrix()
    return Grid(shape, nib.affines.from_matvec(tilt @ turn * spacing, [5.0, -7.0, 1.0]))


@settings(max_examples=40, deadline=None)
@given(grids(), st.integers(2, 5))
def test_without_resampling_a_mask_comes_back_exactly(grid, n):
    mask = np.random.default_rng(0).integers(0, n, grid.shape).astype(np.uint8)
    reference = prepare_reference(mask, grid, plan_of(canonical_spacing(grid)), n)
    assert reference.shape == canonical_grid(grid).shape
    assert reference.dtype == np.uint8
    assert reference.flags.c_contiguous
    np.testing.assert_array_equal(restore(one_hot(reference, n), grid, largest), mask)


@settings(max_examples=40, deadline=None)
@given(grids(), st.tuples(*[st.floats(0.5, 2)] * 3))
def test_image_and_reference_end_on_one_grid_and_come_back_in_the_source_shape(grid, factor):
    spacing = tuple(mm * f for mm, f in zip(canonical_spacing(grid), factor, strict=True))
    mask = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    image = prepare_image(Image(mask[None].astype(np.float32), grid), plan_of(spacing))
    reference = prepare_reference(mask, grid, plan_of(spacing), 3)
    assert image.shape == (1, *reference.shape)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert restore(one_hot(reference, 3), grid, largest).shape == grid.shape


def ball(shape: tuple[int, ...], radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    distance = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    return (distance < radius).astype(np.uint8) + (distance < radius / 2)


@pytest.mark.parametrize(
    ("shape", "spacing", "target"),
    [
        ((20, 40, 32), (2.0, 1.0, 1.25), (1.0, 1.0, 1.0)),
        ((40, 40, 40), (1.0, 1.0, 1.0), (1.3, 1.2, 1.1)),
        ((48, 60), (1.0, 0.8), (1.25, 1.0)),
    ],
)
def test_a_ball_comes_back_through_resampling(shape, spacing, target):
    grid = Grid(shape, np.diag([*spacing[::-1], *[1.0] * (4 - len(shape))]))
    mask = ball(shape, 16, spacing)
    reference = prepare_reference(mask, grid, plan_of(target), 3)
    assert reference.shape != mask.shape
    back = restore(one_hot(reference, 3), grid, largest)
    for label in (1, 2):
        dice = 2 * ((back == label) & (mask == label)).sum() / ((back == label).sum() + (mask == label).sum())
        assert dice > (0.95 if label == 1 else 0.93)
    # On the plan's grid it is the same ball in mm, so resampling neither shifts nor grows it.
    resampled = ball(
        reference.shape, 16, [n * mm / m for n, mm, m in zip(shape, spacing, reference.shape, strict=True)]
    )
    assert 2 * ((reference > 0) & (resampled > 0)).sum() / ((reference > 0).sum() + (resampled > 0).sum()) > 0.97


def test_resampling_is_that_of_voxel_edges_on_a_ramp():
    # A ramp in mm stays that ramp: the value at a voxel's centre, wherever the new centres lie.
    grid = Grid((30, 20), np.diag([1.0, 2.0, 1.0, 1.0]))
    ramp = np.broadcast_to(((np.arange(30) + 0.5) * 2)[:, None], (30, 20)).astype(np.float32)
    out = prepare_image(Image(ramp[None], grid), plan_of((1.5, 0.5), normalization="none"))[0]
    assert out.shape == (40, 40)
    centres = (np.arange(40) + 0.5) * 1.5
    inside = slice(5, -5)  # at the border a spline bends
    np.testing.assert_allclose(out[inside], np.broadcast_to(centres[inside, None], (30, 40)), atol=0.05)


def test_splines_are_cubic_and_do_not_overshoot():
    x = np.linspace(0, 3 * np.pi, 40, dtype=np.float32)
    grid = Grid((1, 40), np.eye(4))
    wave = prepare_image(Image(np.sin(x)[None, None], grid), plan_of((1.0, 0.5), normalization="none"))[0, 0]
    fine = np.interp(np.arange(80) / 2 - 0.25, np.arange(40), x)
    slopes = np.abs(np.sin(fine)) < 0.9  # the crests are clipped to the highest voxel
    slopes[:8] = slopes[-8:] = False  # and at the border a spline bends
    assert np.abs(wave - np.sin(fine))[slopes].max() < 5e-4  # linear interpolation is off by 5e-3
    step = np.repeat(np.float32([[0, 1]]), 10, axis=1)[None]
    out = prepare_image(Image(step, Grid((1, 20), np.eye(4))), plan_of((1.0, 0.4), normalization="none"))
    assert out.min() == 0
    assert out.max() == 1


@settings(max_examples=20, deadline=None)
@given(grids(), st.floats(0.1, 1e4), st.floats(-1e4, 1e4))
def test_zscore_gives_mean_zero_and_deviation_one_for_each_channel(grid, deviation, mean):
    array = np.random.default_rng(1).normal(size=(2, *grid.shape)).astype(np.float32)
    array[1] = array[1] * np.float32(deviation) + np.float32(mean)
    out = prepare_image(Image(array, grid), plan_of(canonical_spacing(grid), 2))
    if np.prod(grid.shape) > 1:
        np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), 0, atol=0.02)
        np.testing.assert_allclose(out.std(axis=(1, 2, 3)), 1, atol=0.02)


def test_without_normalization_values_stay_and_each_channel_has_its_own():
    grid = Grid((3, 4), np.eye(4))
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    out = prepare_image(Image(array, grid), Plan((1.0, 1.0), (8, 8), 1, ("none", "zscore")))
    np.testing.assert_array_equal(out[0], array[0])
    assert out[1].mean() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1, -3e7])
def test_a_constant_image_becomes_zero(value):
    # Not its rounding error divided by its rounding error, which is 1 everywhere.
    out = prepare_image(
        Image(np.full((1, 21, 33, 17), value, np.float32), Grid((21, 33, 17), np.eye(4))), plan_of((1,) * 3)
    )
    np.testing.assert_allclose(out, 0, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(grids())
def test_an_image_is_turned_as_its_mask_is(grid):
    mask = np.random.default_rng(2).integers(0, 9, grid.shape).astype(np.uint8)
    plan = plan_of(canonical_spacing(grid), normalization="none")
    image = prepare_image(Image(mask[None].astype(np.float32), grid), plan)
    np.testing.assert_array_equal(image[0], prepare_reference(mask, grid, plan, 9))
    np.testing.assert_array_equal(image[0], to_canonical(mask, grid))


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        ([0.9, 0.2], [1, 1, 1, 0, 0, 0]),
        ([0.9, 0.4], [1, 1, 1, 1, 0, 0]),
        ([0.9, 0.4, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]),  # outer edges of voxels lie on each other, not outer centres
    ],
)
def test_restoring_interpolates_probabilities_not_classes(probability, expected):
    # The border lies where the interpolated probability of class 1 is 1/2, not halfway between two voxels.
    first = torch.tensor([probability])
    back = restore(torch.stack([1 - first, first]), Grid((1, len(expected)), np.eye(4)), largest)
    assert back.dtype == np.uint8
    assert back.tolist() == [expected]
