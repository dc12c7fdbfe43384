import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.augment.spatial import Motion, Spatial, moves_in_plane, rotation_matrix, source_extent, spatial_axes
from segment.errors import UserError

angle = st.floats(-math.pi, math.pi)
PATCH = (16, 20, 24)


def drawn(spatial: Spatial, patch=PATCH, in_plane=False, n=1500) -> list[Motion | None]:
    return [spatial.draw(3, sample, patch, in_plane) for sample in range(n)]


@settings(max_examples=30, deadline=None)
@given(st.lists(angle, min_size=1, max_size=1) | st.lists(angle, min_size=3, max_size=3))
def test_rotation_matrices_are_rotations(angles):
    matrix = rotation_matrix(angles)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_probabilities_hold_and_are_independent():
    motions = drawn(Spatial(rotation_probability=0.3, scale_probability=0.4, scale=(0.5, 2), elastic_probability=0.2))
    happened = np.array(
        [[m is not None and hit(m) for hit in (
            lambda m: any(m.angles), lambda m: m.scale != (1, 1, 1), lambda m: m.elastic_spacing > 0
        )] for m in motions]
    )  # fmt: skip
    for share, chance in zip(happened.mean(axis=0), (0.3, 0.4, 0.2), strict=True):
        assert share == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 1500))
    correlation = np.corrcoef(happened.T) - np.eye(3)
    assert np.abs(correlation).max() < 4 / math.sqrt(1500)
    still = (1 - 0.3) * (1 - 0.4) * (1 - 0.2)
    assert np.mean([m is None for m in motions]) == pytest.approx(still, abs=0.06)


def test_ranges_are_covered_to_their_ends():
    motions = drawn(
        Spatial(1, 25, 1, 1, (0.7, 1.4), elastic_probability=1, elastic_spacing=(0.1, 0.3), elastic_strength=(0.1, 0.2))
    )
    for values, low, high in (
        ([math.degrees(a) for m in motions for a in m.angles], -25, 25),
        ([m.scale[0] for m in motions], 0.7, 1.4),
        ([m.elastic_spacing for m in motions], 0.1, 0.3),
        ([m.elastic_strength for m in motions], 0.1, 0.2),
    ):
        assert low <= min(values) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=4 * (high - low) / math.sqrt(12 * len(values)))
    assert all(len(set(m.scale)) == 1 for m in motions)


def test_single_axes_can_be_rotated_and_scaled():
    motions = drawn(Spatial(1, 25, 0.5, 1, (0.7, 1.4), scale_axes_together=False))
    turned = np.array([[angle != 0 for angle in m.angles] for m in motions if m])
    assert turned.mean(axis=0).tolist() == pytest.approx([0.5] * 3, abs=4 * math.sqrt(0.25 / 1500))
    assert all(len(set(m.scale)) == 3 for m in motions if m)


def test_one_probability_does_not_shift_the_others():
    few = drawn(Spatial(1, 30, scale_probability=0.2, scale=(0.7, 1.4)), n=50)
    many = drawn(Spatial(1, 30, scale_probability=1, scale=(0.7, 1.4), elastic_probability=1), n=50)
    assert [m.angles for m in few] == [m.angles for m in many]
    assert all(f.scale in (m.scale, (1, 1, 1)) for f, m in zip(few, many, strict=True))


@pytest.mark.parametrize(
    ("patch", "in_plane", "degrees", "angles"),
    [((64, 64, 64), False, 30, 3), ((8, 64, 64), True, 180, 1), ((64, 64), False, 180, 1), ((64, 128), False, 15, 1)],
)
def test_largest_angle_equals_nnunet(patch, in_plane, degrees, angles):
    motions = drawn(Spatial(rotation_probability=1), patch, in_plane, n=400)
    assert {len(m.angles) for m in motions} == {angles}
    assert {m.axes for m in motions} == {len(patch) - in_plane}
    largest = max(abs(math.degrees(a)) for m in motions for a in m.angles)
    assert 0.97 * degrees < largest <= degrees


@pytest.mark.parametrize(
    ("patch", "dummy_2d", "answer"),
    [
        ((20, 60, 61), "auto", True),
        ((20, 60, 60), "auto", False),  # more than 3 times, as in nnU-Net
        ((60, 60, 10), "auto", False),  # the first axis is the one that counts
        ((20, 20, 20), True, True),
        ((1, 60, 60), False, False),
        ((10, 60), True, False),
    ],
)
def test_thick_slices_are_moved_in_plane(patch, dummy_2d, answer):
    assert moves_in_plane(patch, dummy_2d) is answer


def test_box_is_the_bounding_box_of_the_rotated_patch():
    assert source_extent(Motion((0.0,), (0.8, 0.8)), (16, 20), (1, 1)) == (16, 20)
    quarter = source_extent(Motion((math.pi / 2,), (1.0, 1.0)), (16, 24), (1, 1))
    assert quarter == (24, 24)
    assert source_extent(Motion((0.0,) * 3, (1.25,) * 3), (16, 16, 16), (1, 1, 1)) == (20, 20, 20)
    # The centres of 16 voxels of 3 mm lie 45 mm apart.
    assert source_extent(Motion((math.pi / 2,), (1.0, 1.0)), (16, 24), (3, 1)) == (16, 46)
    # In plane the first axis is left out.
    assert source_extent(Motion((0.7,), (1.4, 1.4)), (8, 30, 30), (5, 1, 1))[0] == 8


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=3), st.lists(angle, min_size=3, max_size=3), st.floats(0.5, 2),
    st.floats(0.05, 1), st.floats(0, 0.4), st.lists(st.floats(0.3, 5), min_size=3, max_size=3),
)  # fmt: skip
def test_boxes_grow_by_even_numbers_within_bounds(patch, angles, scale, distance, strength, spacing):
    dims = len(patch)
    motion = Motion(tuple(angles[: 1 if dims == 2 else 3]), (scale,) * dims, distance, strength)
    for box, size in zip(source_extent(motion, patch, spacing[:dims]), patch, strict=True):
        assert size <= box <= 2.2 * size
        assert (box - size) % 2 == 0


@pytest.mark.parametrize(
    ("wanted", "dims", "axes"), [("all", 3, [0, 1, 2]), ("all", 2, [0, 1]), ([2], 3, [2]), ([], 2, [])]
)
def test_axes_are_given_as_a_word_or_a_list(wanted, dims, axes):
    assert spatial_axes(wanted, dims, "key") == axes


@pytest.mark.parametrize(("wanted", "dims"), [([2], 2), ([-1], 3), ("xy", 2), ([0.5], 2)])
def test_missing_axis_is_named(wanted, dims):
    with pytest.raises(UserError, match=r"augment\.mirror"):
        spatial_axes(wanted, dims, "augment.mirror")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"rotation_probability": 1.2}, "rotation_probability"),
        ({"scale": (1.4, 0.7)}, "scale"),
        ({"scale": 0.7}, "scale"),
        ({"rotation": "wide"}, "rotation"),
        ({"elastic_strength": (0, 0.5)}, "elastic_strength"),
        ({"elastic_spacing": (0.0, 0.5)}, "elastic_spacing"),
    ],
)
def test_invalid_parameters_are_refused_by_name(given, key):
    with pytest.raises(UserError, match=rf"augment\.spatial\.{key}="):
        Spatial(**given)
    with pytest.raises(UserError, match="dummy_2d"):
        moves_in_plane((1, 1, 1), "maybe")


def test_description_lists_the_motions():
    words = Motion((math.radians(-12.4), 0.001, 0.5), (1.2, 1.2, 1.2), 0.3, 0.1).words()
    assert words == ["rotated -12° 0° 29°", "field of view 1.20", "elastic 0.30 x 0.10"]
    assert Motion((0.0,), (1.0, 0.9)).words() == ["field of view 1.00 0.90"]
