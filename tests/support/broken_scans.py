"""Broken scans: files, grids, values, channels, headers, duplicates."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from annotated_sets import CELL, DISH, voc, write_voc
from breakage import IMAGE, LABEL, both, breaks, change, edit, edit_training, load, patch, save

# Files


@breaks("unreadable", IMAGE, "cannot be read", "Copy it again")
def image_truncated(root):
    data = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(data[: len(data) // 2])


@breaks("unreadable", LABEL, "cannot be read", "Copy it again")
def label_truncated(root):
    data = (root / LABEL).read_bytes()
    (root / LABEL).write_bytes(data[: len(data) // 2])


@breaks("unreadable", IMAGE, "cannot be read")
def image_is_text(root):
    (root / IMAGE).write_text("an error page of a server")


@breaks("unreadable", IMAGE, "cannot be read")
def image_is_empty(root):
    (root / IMAGE).write_bytes(b"")


@breaks("unreadable", IMAGE, "header declares")
def header_claims_more_voxels_than_can_be(root):
    patch(root / IMAGE, 40, "<4h", 3, 30000, 30000, 30000)


@breaks("unreadable", IMAGE, "impossible geometry")
def header_holds_no_numbers(root):
    patch(root / IMAGE, 280, "<f", float("nan"))


@breaks("unreadable", "scan.mha", "stores its voxels in another file")
def metaimage_points_elsewhere(root):
    array, _ = load(root / IMAGE)
    sitk.WriteImage(sitk.GetImageFromArray(array.T), str(root / "imagesTr" / "scan.mha"))
    data = (root / "imagesTr" / "scan.mha").read_bytes()
    (root / "imagesTr" / "scan.mha").write_bytes(data.replace(b"= LOCAL", b"= /etc/hosts"))
    edit_training(root, lambda listed: listed[1].update(image="imagesTr/scan.mha"))


# Grids


@breaks("grid", LABEL, "shape (6, 8, 7) versus (5, 8, 7)", "Resample")
def label_of_another_shape(root):
    change(root / LABEL, lambda a: a[..., :-1])


@breaks("grid", LABEL, "spacing (1, 1, 1) versus (1, 1, 2) mm")
def label_of_another_spacing(root):
    change(root / LABEL, affine=lambda a: a @ np.diag([2, 1, 1, 1]))


@breaks("grid", LABEL, "origin (0, 0, 0) versus (0, 5, 0) mm")
def label_of_another_origin(root):
    change(root / LABEL, affine=lambda a: nib.affines.from_matvec(a[:3, :3], [0, 5, 0]))


@breaks("grid", LABEL, "spacing (3, 0.7, 0.7) versus (1, 1, 1) mm", "header, which is the identity", "copy the image's")
def label_lost_its_header(root):
    change(root / IMAGE, affine=lambda a: np.diag([-0.7, -0.7, 3, 1]))


@breaks("grid", LABEL, "direction", "If the voxels of both match one by one, copy the image's header")
def label_mirrored(root):
    change(root / LABEL, affine=lambda a: a @ np.diag([-1, 1, 1, 1]))


@breaks("grid", "case_b01_0001.nii.gz", "case_b01_0000", "shape", channels=2)
def channels_of_different_shape(root):
    change(root / "imagesTr/case_b01_0001.nii.gz", lambda a: a[1:])


# Values


@breaks("not_finite", IMAGE, "2 voxel(s)", "NaN")
def image_with_nan(root):
    def spoil(a):
        a = a.astype(np.float32)
        a[0, 0, :2] = np.nan
        return a

    change(root / IMAGE, spoil)


@breaks("not_finite", IMAGE, "1 voxel(s)", "infinite")
def image_with_infinity(root):
    def spoil(a):
        a = a.astype(np.float32)
        a[0, 0, 0] = -np.inf
        return a

    change(root / IMAGE, spoil)


@breaks("constant", IMAGE, "the value 9 everywhere")
def image_constant(root):
    change(root / IMAGE, lambda a: np.full_like(a, 9))


@breaks("constant", "case_b01_0001.nii.gz", "Channel 0", "the value 0 everywhere", channels=2)
def one_channel_constant(root):
    change(root / "imagesTr/case_b01_0001.nii.gz", np.zeros_like)


@breaks("undeclared", LABEL, "undeclared value(s): 7 (3 voxels)", "Correct the mask")
def label_with_an_undeclared_value(root):
    def spoil(a):
        a[0, 0, :3] = 7
        return a

    change(root / LABEL, spoil)


@breaks("undeclared", LABEL, "-1 (1 voxels)")
def label_with_a_negative_value(root):
    def spoil(a):
        a = a.astype(np.int16)
        a[0, 0, 0] = -1
        return a

    change(root / LABEL, spoil)


@breaks("not_a_mask", LABEL, "not integers")
def label_with_fractions(root):
    change(root / LABEL, lambda a: (a * 0.75).astype(np.float32))


@breaks("not_a_mask", LABEL, "not integers", "slope 0.5")
def label_scaled_to_fractions(root):
    patch(root / LABEL, 112, "<2f", 0.5, 0.0)


@breaks("undeclared", LABEL, "slope 2", "4 (")
def label_scaled_to_other_values(root):
    patch(root / LABEL, 112, "<2f", 2.0, 0.0)


@breaks("not_a_mask", LABEL, "more than", "different values")
def label_is_an_image(root):
    rng = np.random.default_rng(0)
    array = rng.permutation(40**3).reshape(40, 40, 40).astype(np.int32)
    both(root, lambda path: save(path, array, np.eye(4)))


@breaks("not_a_mask", LABEL, "2 channels")
def label_of_two_channels(root):
    change(root / LABEL, lambda a: np.stack([a, a], axis=-1))


@breaks("scaling", IMAGE, "slope 1e+38", "overflow 32-bit floats")
def scaling_overflows(root):
    patch(root / IMAGE, 112, "<2f", 1e38, 0.0)


@breaks("scaling", IMAGE, "slope nan", warning=True)
def scaling_is_no_number(root):
    patch(root / IMAGE, 112, "<2f", float("nan"), 0.0)


@breaks("scaling", IMAGE, "slope 0 and intercept 5", warning=True)
def scaling_by_nought_with_an_intercept(root):
    patch(root / IMAGE, 112, "<2f", 0.0, 5.0)


@breaks("unreadable", IMAGE, "intercept nan")
def intercept_is_no_number(root):
    patch(root / IMAGE, 112, "<2f", 1.0, float("nan"))


@breaks("unused", "dataset.json", "'tumour' (value 9)", "none of 4", warning=True)
def declared_label_never_occurs(root):
    edit(root, labels={"0": "background", "1": "ball_1", "2": "ball_2", "9": "tumour"})


@breaks("unused", "dataset.json", "No structure occurs")
def no_foreground_anywhere(root):
    for path in (root / "labelsTr").iterdir():
        change(path, np.zeros_like)


@breaks(
    "rare",
    "labels/case_b01.nii.gz",
    "'label_255' (value 255)",
    "only 1 of 4",
    "mistake",
    layout="folders",
    warning=True,
)
def one_mask_has_a_value_that_no_other_has(root):
    change(root / "labels/case_b01.nii.gz", lambda a: np.where(a == 2, 255, a).astype(np.uint8))


@breaks("shapes", "Annotations/a.xml", "Object 3, a box of 'cell' at (5, 5), has no area", warning=True)
def box_without_area(root):
    shutil.rmtree(root)
    write_voc(root, "a", "b", boxes=(("dish", DISH), ("cell", CELL)))
    (root / "Annotations/a.xml").write_text(voc([("dish", DISH), ("cell", CELL), ("cell", (5, 5, 5, 9))]))


@breaks("empty", LABEL, "no voxel of any structure", warning=True)
def scan_without_foreground(root):
    change(root / LABEL, np.zeros_like)


# Channels and dimensions


@breaks("channels", IMAGE, "4D with 3 channels", "declares 1 (channel_0)")
def four_axes_where_three_are_declared(root):
    change(root / IMAGE, lambda a: np.stack([a, a + 1, a], axis=-1))


@breaks("channels", IMAGE, "colour image (RGB)", "declares 1")
def colour_where_grey_is_declared(root):
    array, affine = load(root / IMAGE)
    colour = np.zeros(array.shape, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    colour["R"] = array
    save(root / IMAGE, colour, affine)


@breaks("channels", IMAGE, "1 channel(s) in 1 file(s)", "declares 2", channels=2)
def a_channel_is_not_listed(root):
    edit_training(root, lambda listed: listed[1]["image"].pop())


@breaks("channels", "case_b01_0000.nii.gz", "2 channel(s) in 2 file(s)", "declares 1")
def a_channel_too_many(root):
    save(root / "imagesTr/case_b01_0001.nii.gz", load(root / IMAGE)[0] + 1, np.eye(4))
    edit_training(root, lambda listed: listed[1]["image"].append("imagesTr/case_b01_0001.nii.gz"))


@breaks("dimensions", IMAGE, "2D, while 3 of 4 scans are 3D")
def flat_among_volumes(root):
    both(root, lambda path: change(path, lambda a: a[:, :, 3]))


# Headers


@breaks("spacing", IMAGE, "8 x 1 x 1 mm along z, y, x", "factor of 8", warning=True)
def spacing_far_off(root):
    both(root, lambda path: change(path, affine=lambda a: a @ np.diag([1, 1, 8, 1])))


@breaks("size", IMAGE, "24 x 8 x 7 voxels", "factor of 4", warning=True)
def size_far_off(root):
    both(root, lambda path: change(path, lambda a: np.repeat(a, 4, axis=2)))


@breaks("header", IMAGE, "500 x 1 x 1 mm", warning=True)
def spacing_of_half_a_metre(root):
    both(root, lambda path: change(path, affine=lambda a: a @ np.diag([1, 1, 500, 1])))


@breaks("header", IMAGE, "micrometres", warning=True)
def sizes_in_micrometres(root):
    patch(root / IMAGE, 123, "<B", 3)


@breaks("header", IMAGE, "neither sform nor qform", warning=True)
def no_position(root):
    both(root, lambda path: patch(path, 252, "<2h", 0, 0))


@breaks("header", IMAGE, "not orthogonal", warning=True)
def axes_sheared(root):
    shear = np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    both(root, lambda path: change(path, affine=lambda a: a @ shear))


def with_forms(path: Path, qform: np.ndarray) -> None:
    image = nib.load(path)
    image = nib.Nifti1Image(np.array(image.dataobj), image.affine)
    image.set_sform(image.affine, 1)
    image.set_qform(qform, 1)
    nib.save(image, path)


@breaks("forms", IMAGE, "12 mm apart", "both", warning=True)
def sform_and_qform_disagree(root):
    with_forms(root / IMAGE, nib.affines.from_matvec(np.eye(3), [12, 0, 0]))


@breaks("forms", LABEL, "mm apart")
def sform_and_qform_mirror_each_other(root):
    with_forms(root / LABEL, np.diag([-1.0, 1, 1, 1]))


@breaks("orientation", IMAGE, "are oblique", "1 of 4", "10 degrees", warning=True)
def scan_lies_oblique(root):
    angle = np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    both(root, lambda path: change(path, affine=lambda a: nib.affines.from_matvec(turn)))


@breaks("orientation", IMAGE, "RAS 3 (right-handed)", "LAS 1 (left-handed)", warning=True)
def scan_is_left_handed(root):
    both(root, lambda path: change(path, affine=lambda a: a @ np.diag([-1, 1, 1, 1])))


# The same scan twice


@breaks("identical", "case_d03_0000.nii.gz", "same voxels as the training scan 'case_b01'")
def training_scan_twice_in_another_type(root):
    array, affine = load(root / IMAGE)
    save(root / "imagesTr/case_d03_0000.nii.gz", array.astype(np.float32), affine)


@breaks("identical", "new.nii.gz", "test scan 'new'", "training scan 'case_b01'")
def training_scan_among_the_tests(root):
    (root / "imagesTs").mkdir()
    shutil.copy(root / IMAGE, root / "imagesTs" / "new.nii.gz")
    edit(root, test=["imagesTs/new.nii.gz"])


@breaks("duplicate", "dataset.json", "Two cases are called 'case_b01'")
def case_listed_twice(root):
    edit_training(root, lambda listed: listed.append(listed[1]))


@breaks("duplicate", LABEL, "one file as both image and mask")
def mask_as_its_own_image(root):
    edit_training(root, lambda listed: listed[1].update(image=listed[1]["label"]))
