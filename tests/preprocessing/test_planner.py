"""Plans field by field against those of nnU-Net 2.8.1.

How the values in nnunet_plans/ were made: each ``fingerprint`` was written as nnU-Net's dataset_fingerprint.json
(shapes after cropping and spacings of a few scans, the list repeated ``repeats`` times by numTraining) beside a
dataset.json with these channel names and as many labels; hippocampus.json holds the fingerprint that nnU-Net's own
extractor took of Task04. Then its ExperimentPlanner and nnUNetPlannerResEncM, L and XL ran on it, some also with
another gpu_memory_target_in_gb or overwrite_target_spacing. What they wrote is stored, names of classes put in our
words. Networks were built without memory (torch's meta device), which leaves the counts as they are.

Known differences: spacings are rounded to seven digits; a median scan is never below one voxel along an axis, nor a
patch, where nnU-Net's would become empty. Memory that holds no patch at all is an error.
"""

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segment.errors import UserError
from segment.preprocessing.fingerprint import Fingerprint
from segment.preprocessing.patches import PRESETS, Budget, fit
from segment.preprocessing.plan import DatasetPlan, Intensity
from segment.preprocessing.planner import Overrides, plan_dataset, target_spacing
from segment.preprocessing.topology import count_values, find_topology

FILES = {file.stem: json.loads(file.read_text()) for file in sorted(Path(__file__).parent.glob("nnunet_plans/*.json"))}
CASES = [
    pytest.param(name, number, configuration, id=f"{name}-{theirs['preset']}-{number}-{configuration}")
    for name, content in FILES.items()
    for number, theirs in enumerate(content["plans"])
    for configuration in theirs["configurations"]
]
EQUAL = ("patch_size", "batch_size", "strides", "kernel_sizes", "features", "blocks", "decoder_blocks", "batch_dice")


def fingerprint_of(name: str) -> Fingerprint:
    stored = FILES[name]["fingerprint"]
    # nnU-Net reads flat images as one slice 999 mm thick.
    first = 1 if all(row[0] == 999 for row in stored["spacings"]) else 0
    shapes, spacings = (
        tuple(tuple(row[first:]) for row in stored[key]) * stored["repeats"] for key in ("shapes", "spacings")
    )
    channels = tuple(stored["channels"])
    intensities = (Intensity(1.0, 1.0, 0.0, 2.0),) * len(channels)
    return Fingerprint(shapes, spacings, intensities, stored["relative_size"], channels, stored["labels"])


@cache
def ours(name: str, number: int) -> DatasetPlan:
    theirs = FILES[name]["plans"][number]
    overrides = Overrides(spacing=theirs["spacing"])
    return plan_dataset(fingerprint_of(name), name, theirs["preset"], theirs["memory"], overrides)


def test_many_nnunet_plans_are_compared():
    assert len(FILES) >= 12
    assert {plan["preset"] for content in FILES.values() for plan in content["plans"]} == set(PRESETS)
    assert {case.values[2] for case in CASES} == {"2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"}


@pytest.mark.parametrize(("name", "number", "configuration"), CASES)
def test_configuration_equals_nnunet(name, number, configuration):
    theirs = FILES[name]["plans"][number]["configurations"]
    plan, expected = ours(name, number).configurations[configuration], theirs[configuration]
    if "inherits_from" in expected:
        parent = ours(name, number).configurations[expected["inherits_from"]]
        assert plan == replace(parent, previous_stage=expected["previous_stage"])
        return
    assert {key: plan.as_dict()[key] for key in EQUAL} == {key: expected[key] for key in EQUAL}
    assert plan.spacing == pytest.approx(expected["spacing"], rel=6e-7)
    masked = expected.get("use_mask_for_norm", [False] * len(plan.normalization))
    chosen = [f"masked_{name}" if mask else name for name, mask in zip(expected["normalization"], masked, strict=True)]
    assert list(plan.normalization) == chosen
    assert plan.previous_stage == ""


@pytest.mark.parametrize(("name", "number"), sorted({case.values[:2] for case in CASES}))
def test_configurations_and_axis_order_equal_nnunet(name, number):
    plan, theirs = ours(name, number), FILES[name]["plans"][number]
    assert set(plan.configurations) == set(theirs["configurations"])
    assert list(plan.transpose or (0, 1, 2)) == theirs["transpose"]
    assert list(plan.median_shape) == theirs["median_shape"][-len(plan.median_shape) :]
    assert plan.median_spacing == pytest.approx(theirs["median_spacing"][-len(plan.median_spacing) :], rel=6e-7)
    assert plan.memory == (theirs["memory"] or PRESETS[theirs["preset"]].memory)


def test_every_decision_has_its_reason():
    for name in FILES:
        plan = ours(name, 0)
        assert set(plan.reasons) - {"transpose"} >= {
            f"{configuration}.{key}"
            for configuration in plan.configurations
            for key in ("spacing", "normalization", *EQUAL)
        }
        assert all(plan.reasons.values()) or not plan.transpose
    assert "10th percentile" in ours("acdc", 0).reasons["3d_fullres.spacing"]
    assert "x is the coarsest" in ours("sagittal", 0).reasons["transpose"]
    assert "nonzero" in ours("brats", 0).reasons["2d.normalization"]


SCAN = Fingerprint(((64, 96, 80),) * 40, ((2.0, 1.0, 1.0),) * 40, (Intensity(0, 1, -1, 1),), 1.0, ("CT",), 3)


def test_the_default_configuration_is_3d_but_for_flat_scans():
    assert len(plan_dataset(SCAN).pick().patch_size) == 3
    flat = replace(SCAN, shapes=((96, 80),) * 40, spacings=((1.0, 1.0),) * 40)
    assert plan_dataset(flat).pick().patch_size == plan_dataset(flat).pick("2d").patch_size
    assert not plan_dataset(flat).pick().sliced
    assert plan_dataset(SCAN).pick("2d").sliced


@pytest.mark.parametrize(("axis", "order"), [(0, (0, 1, 2)), (1, (1, 0, 2)), (2, (2, 0, 1))])
@pytest.mark.parametrize("thickness", [1.0, 5.0, 0.5])
def test_single_slices_along_any_axis_are_planned_in_2d(axis, order, thickness):
    shape, spacing = [96, 80], [1.0, 1.0]
    shape.insert(axis, 1)
    spacing.insert(axis, thickness)
    plan = plan_dataset(replace(SCAN, shapes=(tuple(shape),) * 40, spacings=(tuple(spacing),) * 40))
    assert (set(plan.configurations), plan.transpose, plan.median_shape) == ({"2d"}, order, (1, 96, 80))
    assert plan.pick().sliced


def test_given_values_are_kept_and_the_rest_follows():
    turned = replace(SCAN, shapes=((80, 96, 64),) * 40, spacings=((1.0, 1.0, 2.0),) * 40)
    given = Overrides(spacing=[1.0, 1.5, 3.0], patch_size=[48, 33, 20], batch_size=3, normalization="none")
    plan = plan_dataset(turned, overrides=given)
    full = plan.configurations["3d_fullres"]
    assert plan.transpose == (2, 0, 1)
    assert full.spacing == (3.0, 1.0, 1.5)
    assert full.patch_size == (20, 48, 33)
    assert full.batch_size == plan.configurations["2d"].batch_size == 3
    assert full.normalization == ("none",)
    # 33 is never halved, so that the patch can be used as it is.
    assert all(stride[2] == 1 for stride in full.strides)
    assert "could be halved" in plan.reasons["3d_fullres.patch_size"]
    assert len(plan.configurations["2d"].patch_size) == 2
    sliced = plan_dataset(SCAN, overrides=Overrides(patch_size=[32, 48]))
    assert sliced.configurations["2d"].patch_size == (32, 48)
    assert sliced.configurations["3d_fullres"] == plan_dataset(SCAN).configurations["3d_fullres"]


def test_a_larger_batch_leaves_less_for_a_patch():
    sizes = [plan_dataset(SCAN, memory=2, overrides=Overrides(batch_size=batch)).pick() for batch in (1, 2, 4, 8)]
    assert [plan.batch_size for plan in sizes] == [1, 2, 4, 8]
    voxels = [math.prod(plan.patch_size) for plan in sizes]
    assert voxels == sorted(voxels, reverse=True)
    assert len(set(voxels)) > 2
    assert sizes[1].patch_size == plan_dataset(SCAN, memory=2).pick().patch_size


def test_intensities_go_with_the_configurations_that_need_them():
    plan = plan_dataset(SCAN)
    assert plan.pick().normalization == ("ct",)
    assert plan.pick().intensities == plan.intensities == SCAN.intensities
    other = plan_dataset(replace(SCAN, channels=("T1",)))
    assert other.pick().intensities == ()
    assert other.intensities == SCAN.intensities


@settings(max_examples=60, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
    median=st.tuples(*[st.integers(1, 700)] * 3),
    dims=st.sampled_from([2, 3]),
    preset=st.sampled_from(sorted(PRESETS)),
    memory=st.floats(0.5, 40),
    batch=st.one_of(st.none(), st.integers(1, 12)),
)
def test_a_patch_fits_the_memory_and_the_strides(spacing, median, dims, preset, memory, batch):
    budget = Budget(PRESETS[preset], memory, 4, batch)
    found = fit(budget, spacing[:dims], median[:dims], 1e9)
    divisor = found.topology.divisor
    assert all(size % by == 0 for size, by in zip(found.patch, divisor, strict=True))
    # Never beyond the median scan by more than the strides ask for.
    assert all(size < side + by for size, side, by in zip(found.patch, median, divisor, strict=False))
    values = count_values(
        found.patch,
        found.topology.strides,
        found.features,
        found.blocks,
        found.decoder_blocks,
        residual=PRESETS[preset].residual,
        labels=4,
    )
    reference = {2: 12, 3: 2}[dims]
    assert values * (batch or 2) <= budget.values(dims) * reference * (1 + 1e-9)
    assert found.batch == batch or found.batch >= 2


def test_an_axis_of_one_voxel_is_not_shrunk_away():
    found = fit(Budget(PRESETS["resenc_l"], 0.5, 4), (1.0, 1.0, 0.5), (1, 225, 257), 1e9)
    assert found.patch[0] == 1
    assert 32 < min(found.patch[1:]) < 225


def test_values_are_counted_convolution_by_convolution():
    patch, strides, features = (8, 16), [(1, 1), (1, 2), (2, 1)], [4, 8, 8]
    fine, middle, coarse = 4 * 8 * 16, 8 * 8 * 8, 8 * 4 * 8
    decoder = 3 * fine + 2 * middle  # a transposed convolution, and two or one of its own
    head = 5 * 8 * 16
    plain = count_values(patch, strides, features, [1, 2, 3], [2, 1], residual=False, labels=5)
    assert plain == 1 * fine + 2 * middle + 3 * coarse + decoder + head
    # A stem, two convolutions a block, and shortcuts where the stride or the number of features changes.
    residual = count_values(patch, strides, features, [1, 2, 3], [2, 1], residual=True, labels=5)
    assert residual == fine + 2 * (1 * fine + 2 * middle + 3 * coarse) + middle + coarse + decoder + head
    wider = count_values((8, 8), [(1, 1), (1, 1)], [4, 8], [1, 1], [1], residual=True, labels=1)
    assert wider == 3 * 4 * 64 + 2 * 8 * 64 + 8 * 64 + 2 * 4 * 64 + 64


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(1, 300)] * 3), st.tuples(*[st.floats(0.3, 6)] * 3))
def test_a_given_patch_is_never_padded(patch, spacing):
    topology = find_topology(spacing, patch, exact=True)
    assert topology.padded(patch) == patch
    assert all(side >= 4 or by == 1 for side, by in zip(patch, topology.divisor, strict=True))


def test_the_target_spacing_keeps_its_rule_at_the_border():
    # Over three times coarser, but not under a third of the voxels: the median stays.
    shapes, spacings = ((30, 90, 90),) * 3, ((4.0, 1.0, 1.0), (5.0, 1.0, 1.0), (6.0, 1.0, 1.0))
    base = replace(SCAN, shapes=shapes, spacings=spacings)
    assert target_spacing(base)[0] == (5.0, 1.0, 1.0)
    thin = replace(base, shapes=((29, 90, 90),) * 3)
    assert target_spacing(thin)[0] == pytest.approx((4.2, 1.0, 1.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overrides": Overrides(spacing=[1.0, 1.0])}, r"plan\.spacing=.*3 positive numbers"),
        ({"overrides": Overrides(spacing=[1.0, 1.0, 0.0])}, r"plan\.spacing="),
        ({"overrides": Overrides(spacing=[1.0, 1.0, math.nan])}, r"plan\.spacing="),
        ({"overrides": Overrides(spacing=1.0)}, r"plan\.spacing="),
        ({"overrides": Overrides(spacing="1mm")}, r"plan\.spacing="),
        ({"overrides": Overrides(patch_size=[8, 8, 8, 8])}, r"plan\.patch_size=.*2 or 3"),
        ({"overrides": Overrides(patch_size=[8, -8, 8])}, r"plan\.patch_size="),
        ({"overrides": Overrides(patch_size=[8, 8.5, 8])}, r"plan\.patch_size="),
        ({"overrides": Overrides(batch_size=0)}, r"plan\.batch_size="),
        ({"overrides": Overrides(batch_size="two")}, r"plan\.batch_size="),
        ({"overrides": Overrides(normalization="zscroe")}, r"plan\.normalization=.*Did you mean 'zscore'"),
        ({"overrides": Overrides(normalization=["zscore"] * 2)}, r"plan\.normalization=.*list of 1"),
        ({"overrides": Overrides(normalization=3)}, r"plan\.normalization="),
        ({"preset": "resencm"}, r"plan\.preset=resencm.*Did you mean 'resenc_m'"),
        ({"memory": 0}, r"plan\.memory=0"),
        ({"memory": math.inf}, r"plan\.memory=inf"),
        ({"memory": "8GB"}, r"plan\.memory=8GB"),
        ({"memory": 1e-6}, r"plan\.memory=1e-06 GB cannot hold 2 patches"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_the_name_of_their_key(wrong, message):
    with pytest.raises(UserError, match=f"^{message}"):
        plan_dataset(SCAN, where="plan.", **wrong)


def test_ct_without_any_foreground_is_refused():
    with pytest.raises(UserError, match="normalization: ct needs the intensities"):
        plan_dataset(replace(SCAN, intensities=()))
    assert plan_dataset(replace(SCAN, intensities=()), overrides=Overrides(normalization="zscore")).intensities == ()
