"""Broken data sets with valid scans: descriptions, missing files, splits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from breakage import IMAGE, LABEL, breaks, change, edit, edit_training, load, save

# dataset.json


@breaks("description", "dataset.json", "not valid JSON", "Fix it")
def description_is_not_json(root):
    (root / "dataset.json").write_text('{"training": [')


@breaks("description", "dataset.json", "does not contain a JSON object")
def description_is_a_list(root):
    (root / "dataset.json").write_text("[]")


@breaks("description", "dataset.json", "the key 'training' is duplicated")
def description_gives_a_key_twice(root):
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text('{"training": [],' + text[1:])


@breaks("description", "dataset.json", "It is not used", "'training'", warning=True)
def description_without_cases(root):
    edit(root, training=None)
    for path in (root / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))


@breaks("description", "dataset.json", "contains no case")
def description_with_no_case(root):
    edit(root, training=[])


@breaks("labels", "dataset.json", "labels must map names to values")
def labels_missing(root):
    edit(root, labels=None)


@breaks("labels", "dataset.json", "'ball_1'", "is duplicated")
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


@breaks("labels", "dataset.json", "not an integer")
def label_value_a_fraction(root):
    edit(root, labels={"background": 0, "ball_1": 1.5, "ball_2": 2})


@breaks("channels", "dataset.json", "neither a list of names nor a mapping")
def channels_not_numbered_from_nought(root):
    edit(root, modality={"1": "T1"})


@breaks("description", "dataset.json", "'numTraining' is 5", "4 valid case(s)", warning=True)
def count_of_training_cases_wrong(root):
    edit(root, numTraining=5)


@breaks("description", "dataset.json", "'numTest' is 2", "0 valid case(s)", warning=True)
def count_of_test_cases_wrong(root):
    edit(root, numTest=2, test=[])


@breaks("description", "dataset.json", "'../secret.nii.gz'", "not a path inside")
def entry_leaves_the_folder(root):
    edit_training(root, lambda listed: listed[1].update(image="../secret.nii.gz"))


@breaks("description", "dataset.json", "does not specify an image")
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
    valid = {"train": ["case_a00"], "val": ["case_b01"]}
    return with_splits(root, [valid, {"train": ["case_a00"], "val": ["case_z"]}])


@breaks("splits", "splits_final.json, fold 0", "'case_a00' is duplicated")
def case_on_both_sides_of_a_fold(root):
    return with_splits(root, [{"train": ["case_a00", "case_b01"], "val": ["case_a00"]}])


@breaks("splits", "splits_final.json, fold 0", "group 'patient 1' is in both", layout="table")
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


@breaks("missing", "dataset.json", "declares 7 training cases, but 4 were found", layout="nnunet")
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


@breaks("missing", "images/case_b01_0000.nii.gz", "no matching mask", layout="folders")
def folders_mask_missing(root):
    (root / "labels/case_b01.nii.gz").unlink()


@breaks("missing", "labels/case_b01.nii.gz", "no matching image", layout="folders")
def folders_image_missing(root):
    (root / "images/case_b01_0000.nii.gz").unlink()


@breaks("missing", "images", "'case_b01' has the channels [1]", layout="folders", channels=2)
def folders_first_channel_missing(root):
    (root / "images/case_b01_0000.nii.gz").unlink()


@breaks("channels", "images", "different numbers of channels", layout="folders", channels=2)
def folders_last_channel_missing(root):
    (root / "images/case_b01_0001.nii.gz").unlink()


@breaks("duplicate", "labels/case_b01.nii.gz", "same name as case_b01.nii except for the suffix", layout="folders")
def folders_mask_in_two_formats(root):
    save(root / "labels/case_b01.nii", *load(root / "labels/case_b01.nii.gz"))


@breaks("unreadable", "labels/case_b01.nii.gz", "cannot be read", layout="folders")
def folders_mask_damaged(root):
    (root / "labels/case_b01.nii.gz").write_bytes(b"x")


@breaks("labels", "data.labels", "contain only 0", layout="folders")
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


@breaks("description", "scans.csv, line 6", "not have as many cells", layout="table")
def table_with_a_short_row(root):
    with (root / "scans.csv").open("a") as stream:
        stream.write("case_x\n")


@breaks("description", "scans.csv", "no column 'label'", layout="table")
def table_without_a_column(root):
    text = (root / "scans.csv").read_text()
    (root / "scans.csv").write_text(text.replace("label", "mask", 1))
    return ["data.layout=table"]


@breaks("duplicate", "labelsTr/case_a00.nii.gz", "two cases, 'case_a00' and 'case_b01'", layout="table")
def table_with_one_mask_for_two_scans(root):
    text = (root / "scans.csv").read_text()
    (root / "scans.csv").write_text(text.replace("labelsTr/case_b01", "labelsTr/case_a00"))


@breaks("description", "scans.csv", "'a:b' cannot be the name of a case", layout="table")
def table_with_a_name_that_is_none(root):
    text = (root / "scans.csv").read_text()
    (root / "scans.csv").write_text(text.replace("case_b01,", "a:b,"))
