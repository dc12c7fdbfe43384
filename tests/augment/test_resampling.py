import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segment.augment.resampling import bspline_field, control_points, resample
from segment.augment.spatial import Motion, rotation_matrix

PEER = json.loads((Path(__file__).parent / "batchgeneratorsv2.json").read_text())
# Angles turn within these pairs of array axes, in this order.
PLANES = [(1, 2), (0, 2), (0, 1)]
angle = st.floats(-math.pi, math.pi)


def positions_mm(shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    """(axes, *shape) distances of voxel centres from the centre of the patch in mm."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def ball(shape, spacing, centre, radius) -> torch.Tensor:
    """(1, *shape) uint8, a ball in mm about a point given relative to the centre of the patch."""
    offset = positions_mm(shape, spacing) - np.reshape(centre, (-1, *[1] * len(shape)))
    return torch.from_numpy((np.sqrt((offset**2).sum(axis=0)) < radius).astype(np.uint8))[None]


def centre_mm(mask: torch.Tensor, spacing) -> np.ndarray:
    inside = mask[0].numpy() > 0
    return positions_mm(inside.shape, spacing)[:, inside].mean(axis=1)


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return 2 * float(((a > 0) & (b > 0)).sum()) / float((a > 0).sum() + (b > 0).sum())


def turn(image, reference, angles, scale=1.0, spacing=None):
    shape = image.shape[1:]
    motion = Motion(tuple(angles), (scale,) * len(shape))
    return resample(image, reference, motion.matrix(spacing or (1.0,) * len(shape)), shape)


def by_definition(image, reference, matrix, shape, bend=None):
    """Interpolation by torch's sampler in double precision, one class after the other, the largest share wins."""
    source = image.shape[1:]
    grid = np.stack(
        np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    ) + (0 if bend is None else bend.numpy())  # fmt: skip
    where = np.tensordot(matrix, grid, 1)
    where = np.stack([2 * w / n for w, n in zip(where, source, strict=True)][::-1], axis=-1)
    options = {"padding_mode": "zeros", "align_corners": False}
    sample = torch.from_numpy(where)[None]
    moved = functional.grid_sample(image[None].double(), sample, **options)[0]
    classes = sorted({0, *reference.unique().tolist()})
    shares = [functional.grid_sample((reference == value)[None].double(), sample, **options)[0] for value in classes]
    shares[0] += 1 - torch.stack(shares).sum(dim=0)  # outside is class 0
    ordered = torch.stack(shares).sort(dim=0, descending=True)
    clear = ordered.values[0] - ordered.values[min(1, len(classes) - 1)] > 1e-3
    return moved.float(), torch.tensor(classes, dtype=torch.uint8)[ordered.indices[0]], clear


@pytest.mark.parametrize(
    ("source", "shape"), [((14, 12), (9, 10)), ((9, 14, 11), (8, 9, 10)), ((30, 9, 9), (20, 6, 7))]
)
@settings(max_examples=15, deadline=None)
@given(
    angles=st.lists(angle, min_size=3, max_size=3),
    scale=st.floats(0.4, 2.0),
    bent=st.booleans(),
    seed=st.integers(0, 9),
)
def test_image_is_interpolated_linearly_and_reference_takes_the_largest_share(source, shape, angles, scale, bent, seed):
    random = torch.Generator().manual_seed(seed)
    image = torch.randn(2, *source, generator=random)
    values = torch.tensor([0, 0, 1, 2, 255], dtype=torch.uint8)  # 255: unannotated
    reference = values[torch.randint(0, 5, (1, *source), generator=random)]
    matrix = rotation_matrix(angles[: 1 if len(shape) == 2 else 3]) * scale
    bend = torch.randn(len(shape), *shape, generator=random) if bent else None
    moved, labels = resample(image, reference, matrix, shape, bend)
    expected, classes, clear = by_definition(image, reference, matrix, shape, bend)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-3)
    # What a GPU does without counting the voxels at borders.
    _, of_all = resample(image, reference, matrix, shape, bend, at_borders=False)
    assert torch.equal(of_all[clear], classes[clear])
    assert clear.any()  # not all where many positions lie halfway between voxels
    assert torch.equal(labels[clear], classes[clear])
    assert labels.dtype == torch.uint8


@settings(max_examples=15, deadline=None)
@given(scales=st.lists(st.floats(0.3, 2.0), min_size=3, max_size=3), seed=st.integers(0, 9))
def test_pure_scaling_has_the_same_result_on_its_fast_path(scales, seed):
    random = torch.Generator().manual_seed(seed)
    image, shape = torch.randn(2, 9, 12, 7, generator=random), (8, 10, 6)
    reference = torch.randint(0, 3, (1, 9, 12, 7), generator=random, dtype=torch.uint8)
    moved, labels = resample(image, reference, np.diag(scales), shape)
    expected, classes, clear = by_definition(image, reference, np.diag(scales), shape)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-3)
    assert torch.equal(labels[clear], classes[clear])


def test_the_result_is_that_of_batchgeneratorsv2():
    image = torch.sin(torch.arange(140.0) * 0.37).view(1, 14, 10)
    reference = ((torch.arange(140) * torch.arange(140)) % 7 // 3).view(1, 14, 10).to(torch.uint8)
    moved, labels = resample(image, reference, Motion((0.4,), (1.3, 1.3)).matrix((1, 1)), (8, 6))
    torch.testing.assert_close(moved, torch.tensor(PEER["rotation 0.4 scale 1.3"]).view(1, 8, 6), rtol=0, atol=2e-5)
    assert labels.flatten().tolist() == PEER["classes"]


def test_ties_between_classes_go_to_the_nearest_voxel():
    # At a quarter of the way from the 1 to the 2 below, 1 and the 3s at the side share the weight equally.
    reference = torch.tensor([[[0, 0, 0, 0], [0, 2, 2, 0], [0, 1, 3, 0], [0, 0, 0, 0]]], dtype=torch.uint8)
    for at_borders in (True, False):
        bend = torch.tensor([[[0.5]], [[-0.1]]])
        _, labels = resample(reference.float(), reference, np.eye(2), (1, 1), bend, at_borders=at_borders)
        assert labels.item() == 1


@pytest.mark.parametrize(("dims", "which"), [(2, 0), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_of_a_cube_equal_numpy(dims, which, quarters):
    image = torch.rand(2, *[7] * dims)
    reference = torch.randint(0, 4, (1, *[7] * dims), dtype=torch.uint8)
    angles = [0.0] * (1 if dims == 2 else 3)
    angles[which] = quarters * math.pi / 2
    moved, labels = turn(image, reference, angles)
    plane = [axis + 1 for axis in ((0, 1) if dims == 2 else PLANES[which])]
    # Where a voxel comes from is turned, so the picture turns the other way.
    torch.testing.assert_close(moved, torch.rot90(image, -quarters, plane), rtol=0, atol=1e-5)
    assert torch.equal(labels, torch.rot90(reference, -quarters, plane))


@pytest.mark.parametrize("shape", [(9, 12), (5, 8, 6), (1, 4, 4)])
def test_neutral_parameters_change_nothing(shape):
    image, reference = torch.randn(2, *shape), torch.randint(0, 4, (1, *shape), dtype=torch.uint8)
    moved, labels = turn(image, reference, [0.0] * (1 if len(shape) == 2 else 3))
    assert torch.equal(moved, image)
    assert torch.equal(labels, reference)
    straight = torch.zeros(len(shape), *shape)
    moved, labels = resample(image, reference, np.eye(len(shape)), shape, straight)
    torch.testing.assert_close(moved, image)
    assert torch.equal(labels, reference)


@pytest.mark.parametrize(("shape", "spacing"), [((20, 64), (3.0, 1.25)), ((14, 32, 24), (3.0, 1.0, 1.5))])
@settings(max_examples=15, deadline=None)
@given(angles=st.lists(angle, min_size=3, max_size=3), scale=st.floats(0.7, 1.4))
def test_rotation_is_rigid_in_mm_and_image_and_reference_move_together(shape, spacing, angles, scale):
    # An image of its own coordinates in mm shows where each voxel came from, free of interpolation error.
    where = torch.from_numpy(positions_mm(shape, spacing)).float()
    reference = torch.zeros(1, *shape, dtype=torch.uint8)
    reference[0, where[0] > 0] = 1
    reference[0, where[-1] > 0] += 2
    moved, labels = turn(where, reference, angles[: 1 if len(shape) == 2 else 3], scale, spacing)
    reach = min(n * mm for n, mm in zip(shape, spacing, strict=True)) / 2 - max(spacing)
    inside = where.norm(dim=0) * scale < reach
    source = moved[:, inside]
    torch.testing.assert_close(source.norm(dim=0), where[:, inside].norm(dim=0) * scale, rtol=1e-3, atol=1e-2)
    clear = (source[0].abs() > spacing[0]) & (source[-1].abs() > spacing[-1])
    expected = (source[0] > 0).to(torch.uint8) + 2 * (source[-1] > 0).to(torch.uint8)
    assert clear.any()
    assert torch.equal(labels[0, inside][clear], expected[clear])


@settings(max_examples=8, deadline=None)
@given(angle, angle, angle)
def test_a_ball_in_mm_stays_a_ball_where_voxels_are_not_cubes(a, b, c):
    shape, spacing, centre = (18, 42, 24), (3.0, 1.0, 1.5), np.array([5.0, -6.0, 4.0])
    reference = ball(shape, spacing, centre, 9)
    moved, labels = turn(reference.float(), reference, [a, b, c], spacing=spacing)
    there = centre_mm(labels, spacing)
    assert np.linalg.norm(there) == pytest.approx(np.linalg.norm(centre), abs=0.6)
    assert dice(labels, ball(shape, spacing, there, 9)) > 0.9
    assert dice(moved > 0.5, labels) > 0.95


def test_half_the_field_of_view_doubles_a_diameter():
    small, large = ball((24, 24, 24), (1, 1, 1), (0, 0, 0), 4), ball((24, 24, 24), (1, 1, 1), (0, 0, 0), 8)
    moved, labels = turn(small.float(), small, [0.0] * 3, scale=0.5)
    assert [int(labels[0].amax(dim=axes).sum()) for axes in ((1, 2), (0, 2), (0, 1))] == [16, 16, 16]
    assert dice(labels, large) > 0.9
    assert dice(moved > 0.5, large) > 0.9


def test_outside_the_box_image_and_reference_are_0():
    image, reference = torch.full((1, 8, 8), 3.0), torch.full((1, 8, 8), 255, dtype=torch.uint8)
    moved, labels = turn(image, reference, [math.pi / 4], scale=2.0)
    assert moved[0, 0, 0] == labels[0, 0, 0] == 0
    assert moved[0, 4, 4] == pytest.approx(3.0)
    assert set(labels.unique().tolist()) == {0, 255}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=3), st.floats(1.5, 20), st.integers(0, 5))
def test_splines_reproduce_constants_and_lines_and_exceed_no_control_point(shape, step, seed):
    distance = [step] * len(shape)
    points = control_points(shape, distance)
    cpu = torch.device("cpu")
    even = np.ones((len(shape), *points))
    torch.testing.assert_close(bspline_field(even, shape, distance, cpu), torch.ones(len(shape), *shape))
    line = np.broadcast_to(np.arange(points[-1]), (len(shape), *points))
    rising = bspline_field(line, shape, distance, cpu)
    torch.testing.assert_close(
        rising[0].reshape(-1, shape[-1])[0], torch.arange(shape[-1]) / step + 1, rtol=1e-4, atol=1e-4
    )
    control = np.random.default_rng(seed).uniform(-1, 1, (len(shape), *points))
    field = bspline_field(control, shape, distance, cpu)
    assert field.shape == (len(shape), *shape)
    assert float(field.abs().max()) <= np.abs(control).max() + 1e-6


def test_image_and_reference_are_deformed_together_and_whole_voxels_are_a_shift():
    reference = ball((20, 20, 20), (1, 1, 1), (0, 0, 0), 5)
    bend = torch.zeros(3, 20, 20, 20)
    bend[1] = 3
    moved, labels = resample(reference.float(), reference, np.eye(3), (20, 20, 20), bend)
    assert torch.equal(labels[:, :, :-3], reference[:, :, 3:])
    assert torch.equal(moved, labels.float())


@pytest.mark.gpu
def test_gpu_result_is_the_same():
    image, reference = torch.randn(2, 20, 30, 25), torch.randint(0, 4, (1, 20, 30, 25), dtype=torch.uint8)
    matrix = rotation_matrix([0.3, -0.2, 0.5]) * 1.2
    here, there = (resample(image.to(d), reference.to(d), matrix, (16, 20, 18)) for d in ("cpu", "cuda"))
    torch.testing.assert_close(there[0].cpu(), here[0], rtol=0, atol=1e-4)
    assert (there[1].cpu() == here[1]).float().mean() > 0.999
