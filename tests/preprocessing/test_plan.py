import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from segment.errors import UserError
from segment.io.geometry import Grid, canonical_grid, canonical_spacing
from segment.preprocessing.plan import DatasetPlan, Intensity, Plan, shape_at
from segment.validation import read_as

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


@pytest.mark.parametrize("codes", CODES)
def test_shapes_and_spacings_are_those_along_anatomical_axes(codes):
    grid = oriented(codes, (4, 10, 7), (3.0, 1.0, 0.5))
    assert canonical_grid(grid).shape == (4, 10, 7)
    assert canonical_spacing(grid) == pytest.approx((3.0, 1.0, 0.5))


def test_a_shape_at_another_spacing_has_at_least_one_voxel_an_axis():
    assert shape_at((4, 10, 7), (3.0, 1.0, 0.5), (1.5, 2.0, 0.25)) == (8, 5, 14)
    assert shape_at((4, 10, 7), (3.0, 1.0, 0.5), (100.0, 1.0, 0.5)) == (1, 10, 7)


def test_halves_are_rounded_as_nnunet_rounds_them():
    # 0.7 / 0.2 * 5 is 17.499999999999996; 0.7 * 5 / 0.2 is 17.5, which would be 18.
    assert shape_at((5, 5), (0.7, 0.7), (0.2, 1.4)) == (17, 2)
    assert shape_at((1,), (0.1,), (4.0,)) == (1,)


def test_plan_is_read_back_from_json():
    plan = Plan(
        spacing=(1.0, 0.5),
        patch_size=(64, 48),
        batch_size=2,
        normalization=("ct", "none"),
        transpose=(2, 0, 1),
        intensities=(Intensity(1.0, 2.0, -3.0, 4.0), Intensity(0.0, 1.0, 0.0, 1.0)),
        strides=((1, 1), (2, 1)),
        kernel_sizes=((3, 1), (3, 3)),
        features=(32, 64),
        blocks=(1, 3),
        decoder_blocks=(1,),
        batch_dice=True,
        previous_stage="3d_lowres",
    )
    assert read_as(Plan, json.loads(json.dumps(plan.as_dict())), "model.json") == plan
    assert plan.sliced
    short = Plan((1.0, 0.5), (64, 48), 2, ("zscore", "none"))
    assert read_as(Plan, {key: short.as_dict()[key] for key in list(short.as_dict())[:4]}, "model.json") == short


def test_a_configuration_is_picked_by_name_or_the_3d_one_at_full_resolution():
    flat, full = Plan((1.0, 1.0), (8, 8), 2, ("zscore",)), Plan((1.0,) * 3, (8, 8, 8), 2, ("zscore",))
    both = DatasetPlan(
        "d", "nnunet", 8, 1, ("MRI",), (8,) * 3, (1.0,) * 3, (0, 1, 2), (), {"2d": flat, "3d_fullres": full}
    )
    assert both.pick() is full
    assert both.pick("2d") is flat
    assert replace(both, configurations={"2d": flat}).pick() is flat
    with pytest.raises(UserError, match=r"plan\.configuration=3d_fulres.*Did you mean '3d_fullres'"):
        both.pick("3d_fulres")
