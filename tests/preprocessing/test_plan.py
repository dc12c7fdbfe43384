import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.data.geometry import Grid, canonical_grid
from segment.errors import UserError
from segment.preprocessing.plan import Plan, make_plan, resampled_shape

CODES = ["RAS", "LPS", "PIR", "ASL", "SRP", "IPL"]


def oriented(codes: str, shape_zyx: tuple[int, int, int], spacing_zyx: tuple[float, float, float]) -> Grid:
    """A grid whose axes are stored as ``codes`` and which has this shape and spacing once they run z, y, x."""
    anatomy = nib.orientations.axcodes2ornt(codes)
    world = anatomy[:, 0].astype(int)
    matrix = np.zeros((3, 3))
    for axis, (towards, sign) in enumerate(anatomy):
        matrix[int(towards), axis] = sign * spacing_zyx[::-1][int(towards)]
    stored = tuple(shape_zyx[::-1][towards] for towards in world)
    return Grid(stored[::-1], nib.affines.from_matvec(matrix, [3.0, -2.0, 9.0]))


def flat(shape: tuple[int, int]) -> Grid:
    return Grid(shape, np.eye(4))


@pytest.mark.parametrize("codes", CODES)
def test_shapes_are_those_along_anatomical_axes(codes):
    grid = oriented(codes, (4, 10, 7), (3.0, 1.0, 0.5))
    assert canonical_grid(grid).shape == (4, 10, 7)
    assert resampled_shape(grid, (1.5, 2.0, 0.25)) == (8, 5, 14)
    assert resampled_shape(grid, (100.0, 1.0, 0.5)) == (1, 10, 7)


def test_median_spacing_and_shape_over_orientations():
    shapes = [(20, 30, 40), (22, 34, 44), (24, 38, 48), (90, 90, 90), (10, 10, 10)]
    spacings = [(1.0, 1.5, 2.0), (2.0, 1.5, 1.0), (3.0, 1.5, 4.0), (1.5, 1.5, 0.5), (2.5, 1.5, 9.0)]
    grids = [oriented(*given) for given in zip(CODES, shapes, spacings, strict=False)]
    assert make_plan(grids, 1).spacing == (2.0, 1.5, 2.0)
    same = [oriented(code, shape, (1.0, 1.0, 1.0)) for code, shape in zip(CODES, shapes, strict=False)]
    assert make_plan(same, 1).patch_size == (24, 40, 48)  # 22, 34, 44 rounded up to multiples of 8
    # The shape is measured at the plan's spacing: half of it doubles the voxels.
    assert make_plan(same, 1, spacing=(0.5, 1.0, 1.0)).patch_size == (48, 40, 48)


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(*[st.integers(3, 200)] * 3), min_size=1, max_size=4),
    divisor=st.sampled_from([4, 8, 16]),
    max_voxels=st.integers(16**3, 128**3),
)
def test_a_decided_patch_is_a_multiple_of_the_divisor_within_the_limit(shapes, divisor, max_voxels):
    grids = [oriented("RAS", shape, (1.0, 1.0, 1.0)) for shape in shapes]
    patch = make_plan(grids, 1, divisor=divisor, max_voxels=max_voxels).patch_size
    assert all(size > 0 and size % divisor == 0 for size in patch)
    assert np.prod(patch) <= max_voxels
    median = np.median(shapes, axis=0)
    assert all(size < extent + divisor for size, extent in zip(patch, median, strict=True))
    # Only the longest axes were shrunk: none that was cut is shorter than one that was not.
    cut = [size for size, extent in zip(patch, median, strict=True) if size < extent]
    assert all(size <= min(cut) + divisor for size in patch if cut)


def test_given_values_are_kept():
    grids = [oriented("LPS", (20, 30, 40), (1.0, 2.0, 3.0))]
    plan = make_plan(grids, 2, [1, 1, 1.5], [20, 33, 40], 5, ["none", "zscore"])
    assert plan == Plan((1.0, 1.0, 1.5), (20, 33, 40), 5, ("none", "zscore"))
    assert make_plan(grids, 3, normalization="none").normalization == ("none",) * 3


def test_flat_images_get_flat_plans():
    plan = make_plan([flat((30, 50)), flat((40, 50)), flat((50, 90))], 1)
    assert plan.spacing == (1.0, 1.0)
    assert plan.patch_size == (40, 56)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"spacing": [1.0, 1.0]}, "plan.spacing"),
        ({"spacing": [1.0, 1.0, 0.0]}, "plan.spacing"),
        ({"spacing": [1.0, 1.0, float("nan")]}, "plan.spacing"),
        ({"spacing": [1.0, 1.0, float("inf")]}, "plan.spacing"),
        ({"spacing": 1.0}, "plan.spacing"),
        ({"patch_size": [8, 8, 8, 8]}, "plan.patch_size"),
        ({"patch_size": [8, -8, 8]}, "plan.patch_size"),
        ({"patch_size": 64}, "plan.patch_size"),
        ({"batch_size": 0}, "plan.batch_size"),
        ({"normalization": "zscroe"}, "plan.normalization"),
        ({"normalization": ["zscore"]}, "plan.normalization"),
        ({"normalization": ["zscore", "ct"]}, "plan.normalization"),
        ({"max_voxels": 500}, "plan.max_voxels"),  # less than one divisor cubed
    ],
)
def test_values_that_do_not_fit_are_refused_by_the_name_of_their_key(wrong, key):
    with pytest.raises(UserError, match=rf"^{key}="):
        make_plan([oriented("RAS", (20, 30, 40), (1.0, 1.0, 1.0))], 2, **wrong)


def test_a_plan_survives_json():
    plan = Plan((1.0, 0.5), (64, 48), 2, ("zscore", "none"))
    assert plan.as_dict() == {
        "spacing": [1.0, 0.5],
        "patch_size": [64, 48],
        "batch_size": 2,
        "normalization": ["zscore", "none"],
    }
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
