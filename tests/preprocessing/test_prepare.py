import dataclasses
from contextlib import nullcontext
from pathlib import Path

import make_nnunet_cases
import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import plan_of, whole
from scipy.spatial.transform import Rotation

from segment import memory
from segment.arrays import nonzero_box
from segment.data import open_dataset
from segment.errors import UserError
from segment.files import hash_files
from segment.io.geometry import Grid, canonical_grid, canonical_spacing, to_canonical
from segment.io.images import Image
from segment.preprocessing.plan import Intensity, Plan
from segment.preprocessing.prepare import (
    prepare_image,
    prepare_reference,
    prepared_shape,
    require_preparable,
    transposed,
)
from segment.preprocessing.restore import restore
from segment.preprocessing.store import Store


def one_hot(classes: np.ndarray, n: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([classes == index for index in range(n)]).astype(np.float32))


@st.composite
def grids(draw, largest: int = 7) -> Grid:
    """Any order and direction of the axes, slightly tilted, with voxels that are not cubes."""
    shape = draw(st.tuples(*[st.integers(1, largest)] * 3))
    order, signs = draw(st.permutations(range(3))), draw(st.tuples(*[st.sampled_from([-1, 1])] * 3))
    spacing = draw(st.tuples(*[st.floats(0.3, 5)] * 3))
    turn = np.zeros((3, 3))
    turn[list(order), range(3)] = signs
    tilt = Rotation.from_rotvec(draw(st.tuples(*[st.floats(-0.2, 0.2)] * 3))).as_matrix()
    return Grid(shape, nib.affines.from_matvec(tilt @ turn * spacing, [5.0, -7.0, 1.0]))


transposes = st.sampled_from([(), (0, 1, 2), (1, 0, 2), (2, 0, 1), (1, 2, 0)])


@settings(max_examples=40, deadline=None)
@given(grids(), st.integers(2, 5), transposes)
def test_mask_without_resampling_is_restored_exactly(grid, n, transpose):
    mask = np.random.default_rng(0).integers(0, n, grid.shape).astype(np.uint8)
    spacing = transposed(canonical_spacing(grid), plan_of((1,) * 3, transpose=transpose))
    plan = plan_of(spacing, transpose=transpose)
    reference = prepare_reference(mask, whole(grid, plan), plan)
    assert reference.shape == transposed(canonical_grid(grid).shape, plan)
    assert reference.dtype == np.uint8
    assert reference.flags.c_contiguous
    np.testing.assert_array_equal(restore(one_hot(reference, n), whole(grid, plan), plan), mask)


@settings(max_examples=40, deadline=None)
@given(grids(), st.tuples(*[st.floats(0.5, 2)] * 3), transposes)
def test_image_and_reference_share_a_grid_and_are_restored_to_the_source_shape(grid, factor, transpose):
    plan = plan_of((1,) * 3, transpose=transpose)
    spacing = tuple(mm * f for mm, f in zip(transposed(canonical_spacing(grid), plan), factor, strict=True))
    plan = plan_of(spacing, transpose=transpose)
    mask = np.random.default_rng(0).integers(0, 3, grid.shape).astype(np.uint8)
    image, placement = prepare_image(Image(mask[None].astype(np.float32), grid), plan)
    reference = prepare_reference(mask, placement, plan)
    assert image.shape == (1, *reference.shape)
    extent = [stop - start for start, stop in placement.box]
    assert reference.shape == prepared_shape(extent, transposed(canonical_spacing(grid), plan), plan)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert np.isfinite(image).all()
    assert restore(one_hot(reference, 3), placement, plan).shape == grid.shape


@settings(max_examples=30, deadline=None)
@given(grids(), transposes, st.integers(0, 9))
def test_a_scan_is_cropped_to_what_is_not_zero_and_pasted_back(grid, transpose, seed):
    random = np.random.default_rng(seed)
    image = np.zeros((2, *grid.shape), np.float32)
    for channel in image:  # each channel alone holds a part of the box
        channel[tuple(random.integers(0, size) for size in grid.shape)] = -3
    kept = tuple(slice(int(places.min()), int(places.max()) + 1) for places in np.nonzero(image.any(axis=0)))
    plan = plan_of((1,) * 3, transpose=transpose)
    plan = plan_of(transposed(canonical_spacing(grid), plan), 2, "none", transpose)
    before = image.copy()
    prepared, placement = prepare_image(Image(image, grid), plan)
    np.testing.assert_array_equal(image, before)
    assert sorted(prepared.shape[1:]) == sorted(part.stop - part.start for part in kept)
    assert prepared.any(axis=0).sum() == image.any(axis=0).sum()
    # Ones everywhere on the plan's grid are ones in the box, and background around it.
    expected = np.zeros(grid.shape, np.uint8)
    expected[kept] = 1
    ones = one_hot(np.ones(prepared.shape[1:], np.uint8), 2)
    np.testing.assert_array_equal(restore(ones, placement, plan), expected)


def test_input_scan_is_not_modified():
    # On RAS axes and without a border nothing needs a copy but the normalising.
    image = np.random.default_rng(0).normal(9, 2, (1, 4, 5, 6)).astype(np.float32)
    before = image.copy()
    prepared, _ = prepare_image(Image(image, Grid((4, 5, 6), np.eye(4))), plan_of((1, 1, 1)))
    assert abs(prepared.mean()) < 1e-3
    np.testing.assert_array_equal(image, before)


def test_an_empty_scan_is_kept_whole():
    assert nonzero_box(np.zeros((1, 3, 4, 5))) == ((0, 3), (0, 4), (0, 5))


def test_a_scan_is_normalised_without_its_border_and_before_it_is_resampled():
    grid = Grid((9, 20, 20), np.eye(4))
    image = np.zeros((1, 9, 20, 20), np.float32)
    image[0, 2:7, 5:15, 4:16] = np.random.default_rng(0).normal(100, 9, (5, 10, 12))
    prepared, _ = prepare_image(Image(image, grid), plan_of((1, 2, 2)))
    assert prepared.shape == (1, 5, 5, 6)
    inside = image[0, 2:7, 5:15, 4:16]
    normal = (inside - inside.mean()) / inside.std()
    expected = prepare_image(Image(normal[None], Grid((5, 10, 12), np.eye(4))), plan_of((1, 2, 2), 1, "none"))[0]
    np.testing.assert_allclose(prepared, expected, atol=1e-5)
    assert prepared.std() < 0.9  # what is averaged afterwards varies less


def test_slice_spacing_is_kept():
    grid = Grid((7, 20, 30), np.diag([0.5, 1.0, 4.0, 1.0]))
    plan = Plan((2.0, 1.0), (8, 8), 1, ("none",), (0, 1, 2))
    image = np.random.default_rng(0).normal(size=(1, 7, 20, 30)).astype(np.float32)
    prepared, placement = prepare_image(Image(image, grid), plan)
    assert prepared.shape == (1, 7, 10, 15)
    assert prepared_shape((7, 20, 30), (4.0, 1.0, 0.5), plan) == (7, 10, 15)
    for index in range(7):  # each as a flat image of its own
        flat = prepare_image(
            Image(image[:, index], Grid((20, 30), np.diag([0.5, 1.0, 1.0, 1.0]))), plan_of((2.0, 1.0), 1, "none")
        )
        np.testing.assert_allclose(prepared[:, index], flat[0], atol=1e-6)
    assert prepare_reference(np.zeros((7, 20, 30), np.uint8), placement, plan).shape == (7, 10, 15)
    classes = np.arange(7).repeat(150).reshape(7, 10, 15)
    np.testing.assert_array_equal(
        restore(one_hot(classes, 7), placement, plan), np.broadcast_to(np.arange(7)[:, None, None], (7, 20, 30))
    )


CASES = np.load(Path(__file__).parent / "nnunet_cases.npz")


@pytest.mark.parametrize("name", make_nnunet_cases.CASES)
def test_scans_are_prepared_as_nnunet_prepares_them(name):
    """nnunet_cases.npz holds what nnU-Net 2.8.1 made of these scans, see make_nnunet_cases.py."""
    _, channels, spacing, target, normalization, transpose = make_nnunet_cases.CASES[name]
    image, labels, expected, reference, box = (
        CASES[f"{name}/{part}"] for part in ("image", "labels", "prepared", "reference", "box")
    )
    intensity = make_nnunet_cases.INTENSITY
    foreground = Intensity(
        intensity["mean"], intensity["std"], intensity["percentile_00_5"], intensity["percentile_99_5"]
    )
    plan = dataclasses.replace(
        plan_of(target, channels, normalization, transpose), intensities=(foreground,) * channels
    )
    grid = Grid(labels.shape, np.diag([*spacing[::-1], 1.0]))
    found, placement = prepare_image(Image(image.astype(np.float32), grid), plan)
    assert placement.box == tuple((start, stop) for start, stop in box.tolist())
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.ptp(expected))
    # Where two labels have the same share, its rounding decides.
    assert (prepare_reference(labels, placement, plan) != reference).mean() < 0.003
    assert len(np.unique(reference)) == 4


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
def test_ball_is_restored_after_resampling(shape, spacing, target):
    grid = Grid(shape, np.diag([*spacing[::-1], *[1.0] * (4 - len(shape))]))
    mask = ball(shape, 16, spacing)
    plan = plan_of(target)
    reference = prepare_reference(mask, whole(grid, plan), plan)
    assert reference.shape != mask.shape
    back = restore(one_hot(reference, 3), whole(grid, plan), plan)
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
    out = prepare_image(Image(ramp[None], grid), plan_of((1.5, 0.5), normalization="none"))[0][0]
    assert out.shape == (40, 40)
    centres = (np.arange(40) + 0.5) * 1.5
    inside = slice(5, -5)  # at the border a spline bends
    np.testing.assert_allclose(out[inside], np.broadcast_to(centres[inside, None], (30, 40)), atol=0.05)


def test_splines_are_cubic_and_do_not_overshoot():
    x = np.linspace(0, 3 * np.pi, 40, dtype=np.float32)
    grid = Grid((1, 40), np.eye(4))
    wave = prepare_image(Image(np.sin(x)[None, None] + 2, grid), plan_of((1.0, 0.5), normalization="none"))[0][0, 0] - 2
    fine = np.interp(np.arange(80) / 2 - 0.25, np.arange(40), x)
    slopes = np.abs(np.sin(fine)) < 0.9  # the crests are clipped to the highest voxel
    slopes[:8] = slopes[-8:] = False  # and at the border a spline bends
    assert np.abs(wave - np.sin(fine))[slopes].max() < 5e-4  # linear interpolation is off by 5e-3
    step = np.repeat(np.float32([[1, 2]]), 10, axis=1)[None]
    out = prepare_image(Image(step, Grid((1, 20), np.eye(4))), plan_of((1.0, 0.4), normalization="none"))[0]
    assert out.min() == 1
    assert out.max() == 2


@settings(max_examples=20, deadline=None)
@given(grids(), transposes)
def test_image_and_mask_are_reoriented_together(grid, transpose):
    mask = np.random.default_rng(2).integers(1, 9, grid.shape).astype(np.uint8)
    plan = plan_of((1,) * 3, transpose=transpose)
    plan = plan_of(transposed(canonical_spacing(grid), plan), 1, "none", transpose)
    image, placement = prepare_image(Image(mask[None].astype(np.float32), grid), plan)
    np.testing.assert_array_equal(image[0], prepare_reference(mask, placement, plan))
    np.testing.assert_array_equal(image[0], to_canonical(mask, grid).transpose(transpose or (0, 1, 2)))


@pytest.mark.parametrize(
    ("shape", "millimetres", "refused"),
    [
        ((20, 28, 24), 60, True),  # a header in another unit: 2.9e9 voxels
        ((20, 28, 24), 25, True),
        ((20, 28, 24), 8, False),
        ((512, 512, 512), 2.6, True),  # 11 GB
        ((100, 512, 512), 2.5, False),
    ],
)
def test_a_scan_that_its_spacing_makes_absurdly_large_is_refused(shape, millimetres, refused, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 10**10)
    grid = Grid(shape, np.diag([*[float(millimetres)] * 3, 1]))
    with pytest.raises(UserError, match=r"scan.nii: .*Fix the spacing") if refused else nullcontext():
        require_preparable(grid, 1, Plan((1.0,) * 3, (8,) * 3, 1, ("zscore",)), "scan.nii")


def test_training_names_the_scan_whose_spacing_is_in_another_unit(make_dataset, tmp_path):
    root = make_dataset(tmp_path / "in", "folders", n=3, shape=(20, 28, 24))
    for folder, end in (("images", "_0000"), ("labels", "")):
        path = root / folder / f"case_b01{end}.nii.gz"
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([60.0, 60, 60, 1])), path)
    dataset = open_dataset(root)
    hashes = hash_files(file for case in dataset.cases for file in case.files)
    store = Store(tmp_path / "store", dataset, Plan((1.0,) * 3, (8,) * 3, 1, ("zscore",)), hashes)
    with pytest.raises(UserError, match=r"case_b01_0000\.nii\.gz: its 20 x 28 x 24 voxels.*Fix the spacing"):
        store.prepare(dataset.cases)
