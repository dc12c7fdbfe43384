"""Ways to break a sound miniature data set, each made as real files: what must be found, and where it must be named."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk


@dataclass(frozen=True)
class Breakage:
    """One way to break a data set.

    Attributes:
        name: What is done.
        do: Breaks the data set at a root; may return further overrides of the command.
        kind: Kind of the problem that must be found.
        file: End of the file that must be named.
        words: What the problem must say.
        layout: Layout of the data set before.
        channels: Channels of each of its scans.
        warning: Whether it is a warning, with which the data set stays sound.
    """

    name: str
    do: Callable[[Path], list[str] | None]
    kind: str
    file: str
    words: tuple[str, ...]
    layout: str
    channels: int
    warning: bool


BREAKAGES: list[Breakage] = []
IMAGE, LABEL = "imagesTr/case_b01_0000.nii.gz", "labelsTr/case_b01.nii.gz"


def breaks(
    kind: str, file: str, *words: str, layout: str = "msd", channels: int = 1, warning: bool = False
) -> Callable:
    """Enter a function in the table."""

    def enter(do: Callable[[Path], list[str] | None]) -> Callable[[Path], list[str] | None]:
        BREAKAGES.append(Breakage(do.__name__, do, kind, file, words, layout, channels, warning))
        return do

    return enter


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.array(image.dataobj), image.affine.copy()


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, affine), path)


def change(path: Path, values: Callable[[np.ndarray], np.ndarray] | None = None, **header: Callable) -> None:
    """Rewrite a scan with other values, or another affine."""
    array, affine = load(path)
    array = values(array) if values else array
    save(path, array, header["affine"](affine) if header else affine)


def edit(root: Path, **changes: object) -> None:
    """Change keys of dataset.json; None takes one out."""
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def edit_training(root: Path, change: Callable[[list[dict]], object]) -> None:
    listed = json.loads((root / "dataset.json").read_text())["training"]
    change(listed)
    edit(root, training=listed)


def patch(path: Path, offset: int, code: str, *values: float) -> None:
    """Overwrite bytes of a NIfTI header as no library would."""
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(code, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


def both(root: Path, do: Callable[[Path], None]) -> None:
    do(root / IMAGE)
    do(root / LABEL)


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


@breaks("unreadable", IMAGE, "header promises")
def header_claims_more_voxels_than_can_be(root):
    patch(root / IMAGE, 40, "<4h", 3, 30000, 30000, 30000)


@breaks("unreadable", IMAGE, "impossible geometry")
def header_holds_no_numbers(root):
    patch(root / IMAGE, 280, "<f", float("nan"))


@breaks("unreadable", "scan.mha", "keeps its voxels in another file")
def metaimage_points_elsewhere(root):
    array, _ = load(root / IMAGE)
    sitk.WriteImage(sitk.GetImageFromArray(array.T), str(root / "imagesTr" / "scan.mha"))
    data = (root / "imagesTr" / "scan.mha").read_bytes()
    (root / "imagesTr" / "scan.mha").write_bytes(data.replace(b"= LOCAL", b"= /etc/hosts"))
    edit_training(root, lambda listed: listed[1].update(image="imagesTr/scan.mha"))


# Grids


@breaks("grid", LABEL, "shape (6, 8, 7) against (5, 8, 7)", "Resample")
def label_of_another_shape(root):
    change(root / LABEL, lambda a: a[..., :-1])


@breaks("grid", LABEL, "spacing (1, 1, 1) against (1, 1, 2) mm")
def label_of_another_spacing(root):
    change(root / LABEL, affine=lambda a: a @ np.diag([2, 1, 1, 1]))


@breaks("grid", LABEL, "origin (0, 0, 0) against (0, 5, 0) mm")
def label_of_another_origin(root):
    change(root / LABEL, affine=lambda a: nib.affines.from_matvec(a[:3, :3], [0, 5, 0]))


@breaks("grid", LABEL, "direction")
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


@breaks("not_a_mask", LABEL, "not whole numbers")
def label_with_fractions(root):
    change(root / LABEL, lambda a: (a * 0.75).astype(np.float32))


@breaks("not_a_mask", LABEL, "not whole numbers", "slope 0.5")
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


@breaks("scaling", IMAGE, "slope 1e+38", "beyond 32-bit numbers")
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


@breaks("never", "dataset.json", "'tumour' (value 9)", "none of 4", warning=True)
def declared_label_never_occurs(root):
    edit(root, labels={"0": "background", "1": "ball_1", "2": "ball_2", "9": "tumour"})


@breaks("never", "dataset.json", "No structure occurs")
def no_foreground_anywhere(root):
    for path in (root / "labelsTr").iterdir():
        change(path, np.zeros_like)


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


@breaks("spacing", IMAGE, "8 x 1 x 1 mm along z, y, x", "8 times", warning=True)
def spacing_far_off(root):
    both(root, lambda path: change(path, affine=lambda a: a @ np.diag([1, 1, 8, 1])))


@breaks("size", IMAGE, "24 x 8 x 7 voxels", "4 times", warning=True)
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


@breaks("header", IMAGE, "not at right angles", warning=True)
def axes_sheared(root):
    shear = np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    both(root, lambda path: change(path, affine=lambda a: a @ shear))


def with_forms(path: Path, qform: np.ndarray) -> None:
    image = nib.load(path)
    image = nib.Nifti1Image(np.array(image.dataobj), image.affine)
    image.set_sform(image.affine, 1)
    image.set_qform(qform, 1)
    nib.save(image, path)


@breaks("forms", IMAGE, "12 mm apart", "both")
def sform_and_qform_disagree(root):
    with_forms(root / IMAGE, nib.affines.from_matvec(np.eye(3), [12, 0, 0]))


@breaks("forms", LABEL, "mm apart")
def sform_and_qform_mirror_each_other(root):
    with_forms(root / LABEL, np.diag([-1.0, 1, 1, 1]))


@breaks("orientation", IMAGE, "lie oblique", "1 of 4", "10 degrees", warning=True)
def scan_lies_oblique(root):
    angle = np.deg2rad(10)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    both(root, lambda path: change(path, affine=lambda a: nib.affines.from_matvec(turn)))


@breaks("orientation", IMAGE, "RAS 3 (right-handed)", "LAS 1 (left-handed)", warning=True)
def scan_is_left_handed(root):
    both(root, lambda path: change(path, affine=lambda a: a @ np.diag([-1, 1, 1, 1])))


# The same scan twice


@breaks("duplicate", "case_d03_0000.nii.gz", "same voxels as the training scan 'case_b01'")
def training_scan_twice_in_another_type(root):
    array, affine = load(root / IMAGE)
    save(root / "imagesTr/case_d03_0000.nii.gz", array.astype(np.float32), affine)


@breaks("duplicate", "new.nii.gz", "test scan 'new'", "training scan 'case_b01'")
def training_scan_among_the_tests(root):
    (root / "imagesTs").mkdir()
    shutil.copy(root / IMAGE, root / "imagesTs" / "new.nii.gz")
    edit(root, test=["imagesTs/new.nii.gz"])


@breaks("twice", "dataset.json", "two cases are called 'case_b01'")
def case_listed_twice(root):
    edit_training(root, lambda listed: listed.append(listed[1]))


@breaks("twice", LABEL, "one file as image and as mask")
def mask_as_its_own_image(root):
    edit_training(root, lambda listed: listed[1].update(image=listed[1]["label"]))


# dataset.json


@breaks("description", "dataset.json", "not valid JSON", "Mend it")
def description_is_not_json(root):
    (root / "dataset.json").write_text('{"training": [')


@breaks("description", "dataset.json", "does not hold a JSON object")
def description_is_a_list(root):
    (root / "dataset.json").write_text("[]")


@breaks("description", "dataset.json", "the key 'training' stands twice")
def description_gives_a_key_twice(root):
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text('{"training": [],' + text[1:])


@breaks("description", "dataset.json", "It is not used", "'training'", warning=True)
def description_without_cases(root):
    edit(root, training=None)
    for path in (root / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))


@breaks("description", "dataset.json", "names no case")
def description_with_no_case(root):
    edit(root, training=[])


@breaks("labels", "dataset.json", "labels must map names to values")
def labels_missing(root):
    edit(root, labels=None)


@breaks("labels", "dataset.json", "'ball_1'", "stands twice")
def label_name_repeated(root):
    edit(root, labels={"0": "background", "1": "ball_1", "2": "ball_1"})


@breaks("labels", "dataset.json", "two labels share a value")
def label_value_repeated(root):
    edit(root, labels={"background": 0, "ball_1": 1, "ball_2": 1})


@breaks("labels", "dataset.json", "region 'rim'", "regions_class_order", layout="nnunet")
def regions_without_an_order(root):
    edit(root, labels={"background": 0, "rim": [1, 2], "all": [1, 2]})


@breaks("undeclared", LABEL, "9 (1 voxels)", "'ignore': 7", layout="nnunet")
def undeclared_value_beside_the_ignored_one(root):
    edit(root, labels={"background": 0, "whole": [1, 2], "core": 2, "ignore": 7})

    def spoil(a):
        a[0, 0, :2] = 7, 9
        return a

    change(root / LABEL, spoil)


@breaks("labels", "dataset.json", "not a whole number")
def label_value_a_fraction(root):
    edit(root, labels={"background": 0, "ball_1": 1.5, "ball_2": 2})


@breaks("channels", "dataset.json", "neither a list of names nor a mapping")
def channels_not_numbered_from_nought(root):
    edit(root, modality={"1": "T1"})


@breaks("description", "dataset.json", "'numTraining' is 5", "4 sound case(s)", warning=True)
def count_of_training_cases_wrong(root):
    edit(root, numTraining=5)


@breaks("description", "dataset.json", "'numTest' is 2", "0 sound case(s)", warning=True)
def count_of_test_cases_wrong(root):
    edit(root, numTest=2, test=[])


@breaks("description", "dataset.json", "'../secret.nii.gz'", "not a path inside")
def entry_leaves_the_folder(root):
    edit_training(root, lambda listed: listed[1].update(image="../secret.nii.gz"))


@breaks("description", "dataset.json", "does not name an image")
def entry_without_an_image(root):
    edit_training(root, lambda listed: listed[1].pop("image"))


@breaks("missing", "dataset.json", "'case_b01'", "case_b01_0000.nii.gz, which does not exist")
def image_file_missing(root):
    (root / IMAGE).unlink()


@breaks("missing", "dataset.json", "'case_b01'", "labelsTr/case_b01.nii.gz, which does not exist")
def label_file_missing(root):
    (root / LABEL).unlink()


@breaks("missing", "dataset.json", "training case 'case_b01_0000' has no label")
def training_case_without_a_label(root):
    edit_training(root, lambda listed: listed[1].pop("label"))


@breaks("missing", "dataset.json", "'gone'", "which does not exist")
def test_file_missing(root):
    (root / "imagesTs").mkdir()
    edit(root, test=["imagesTs/gone.nii.gz"])


@breaks("unlisted", "imagesTr/extra.nii.gz", "does not list it", warning=True)
def image_not_listed(root):
    save(root / "imagesTr/extra.nii.gz", np.ones((2, 2, 2), np.uint8), np.eye(4))


@breaks("unlisted", "labelsTr/extra.nii.gz", "does not list it", warning=True)
def label_not_listed(root):
    save(root / "labelsTr/extra.nii.gz", np.ones((2, 2, 2), np.uint8), np.eye(4))


# Splits


def with_splits(root: Path, content: object) -> list[str]:
    path = root.parent / "splits_final.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return [f"splits={path}"]


@breaks("splits", "nowhere.json", "does not exist")
def splits_file_missing(root):
    return [f"splits={root.parent / 'nowhere.json'}"]


@breaks("splits", "splits_final.json", "not valid JSON")
def splits_file_is_not_json(root):
    return with_splits(root, "[{")


@breaks("splits", "splits_final.json, fold 1", "'case_z'", "not in the data set")
def splits_file_names_an_unknown_case(root):
    sound = {"train": ["case_a00"], "val": ["case_b01"]}
    return with_splits(root, [sound, {"train": ["case_a00"], "val": ["case_z"]}])


@breaks("splits", "splits_final.json, fold 0", "'case_a00' stands twice")
def case_on_both_sides_of_a_fold(root):
    return with_splits(root, [{"train": ["case_a00", "case_b01"], "val": ["case_a00"]}])


@breaks("splits", "splits_final.json, fold 0", "group 'patient 1' is on both sides", layout="table")
def patient_on_both_sides_of_a_fold(root):
    lines = (root / "scans.csv").read_text().splitlines()
    grouped = [f"{lines[0]},group", *(f"{line},patient {n // 2}" for n, line in enumerate(lines[1:], 1))]
    (root / "scans.csv").write_text("\n".join(grouped))
    return with_splits(root, [{"train": ["case_a00", "case_b01"], "val": ["case_c02"]}])


# nnU-Net's layout


@breaks("missing", "", "'case_b01'", "case_b01_0001.nii.gz, which does not exist", layout="nnunet", channels=2)
def nnunet_channel_missing(root):
    (root / "imagesTr/case_b01_0001.nii.gz").unlink()


@breaks("missing", "", "'case_b01' has no label", layout="nnunet")
def nnunet_label_missing(root):
    (root / LABEL).unlink()


@breaks("missing", "dataset.json", "promises 7 training cases and 4 are there", layout="nnunet")
def nnunet_cases_missing(root):
    edit(root, numTraining=7)


@breaks("description", "dataset.json", "file_ending '.nii.g'", "Did you mean", layout="nnunet")
def nnunet_ending_misspelt(root):
    edit(root, file_ending=".nii.g")


@breaks("channels", "dataset.json", "neither a list of names nor a mapping", layout="nnunet")
def nnunet_channels_not_named(root):
    edit(root, channel_names="T1")


@breaks("unlisted", "case_b01_0001.nii.gz", "does not list it", layout="nnunet", warning=True)
def nnunet_channel_not_declared(root):
    shutil.copy(root / IMAGE, root / "imagesTr/case_b01_0001.nii.gz")


@breaks("description", "dataset.json", "'case_q'", "no list 'images'", layout="nnunet")
def nnunet_entry_without_images(root):
    listed = {
        path.name[:-7]: {"images": [f"imagesTr/{path.name[:-7]}_0000.nii.gz"], "label": f"labelsTr/{path.name}"}
        for path in (root / "labelsTr").iterdir()
    }
    edit(root, dataset=listed | {"case_q": {}})


# images/ and labels/


@breaks("missing", "images/case_b01_0000.nii.gz", "no mask", layout="folders")
def folders_mask_missing(root):
    (root / "labels/case_b01.nii.gz").unlink()


@breaks("missing", "labels/case_b01.nii.gz", "no image", layout="folders")
def folders_image_missing(root):
    (root / "images/case_b01_0000.nii.gz").unlink()


@breaks("missing", "images", "'case_b01' has the channels [1]", layout="folders", channels=2)
def folders_first_channel_missing(root):
    (root / "images/case_b01_0000.nii.gz").unlink()


@breaks("channels", "images", "different numbers of channels", layout="folders", channels=2)
def folders_last_channel_missing(root):
    (root / "images/case_b01_0001.nii.gz").unlink()


@breaks("twice", "labels/case_b01.nii.gz", "same name as case_b01.nii but for the format", layout="folders")
def folders_mask_in_two_formats(root):
    save(root / "labels/case_b01.nii", *load(root / "labels/case_b01.nii.gz"))


@breaks("unreadable", "labels/case_b01.nii.gz", "cannot be read", layout="folders")
def folders_mask_damaged(root):
    (root / "labels/case_b01.nii.gz").write_bytes(b"x")


@breaks("labels", "data.labels", "nothing but 0", layout="folders")
def folders_masks_empty(root):
    for path in (root / "labels").iterdir():
        change(path, np.zeros_like)


@breaks("description", "", "layout", "is not recognised", layout="folders")
def folders_gone(root):
    shutil.rmtree(root / "labels")


# A table


@breaks("description", "scans.csv, line 3", "the cell 'image_0' is empty", layout="table")
def table_with_an_empty_cell(root):
    text = (root / "scans.csv").read_text()
    (root / "scans.csv").write_text(text.replace("imagesTr/case_b01_0000.nii.gz", ""))


@breaks("description", "scans.csv, line 6", "not as many cells", layout="table")
def table_with_a_short_row(root):
    with (root / "scans.csv").open("a") as stream:
        stream.write("case_x\n")


@breaks("description", "scans.csv", "no column 'label'", layout="table")
def table_without_a_column(root):
    text = (root / "scans.csv").read_text()
    (root / "scans.csv").write_text(text.replace("label", "mask", 1))
    return ["data.layout=table"]


@breaks("twice", "labelsTr/case_a00.nii.gz", "two cases, 'case_a00' and 'case_b01'", layout="table")
def table_with_one_mask_for_two_scans(root):
    text = (root / "scans.csv").read_text()
    (root / "scans.csv").write_text(text.replace("labelsTr/case_b01", "labelsTr/case_a00"))


@breaks("description", "scans.csv", "'a:b' cannot be a case's name", layout="table")
def table_with_a_name_that_is_none(root):
    text = (root / "scans.csv").read_text()
    (root / "scans.csv").write_text(text.replace("case_b01,", "a:b,"))
