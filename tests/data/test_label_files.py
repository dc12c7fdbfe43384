"""Names of values come with the masks: from ITK-SNAP, BIDS or JSON."""

import json

import pytest
from tiny_scans import put_masks, put_scans

from segment.data import open_dataset
from segment.data.label_files import named_values
from segment.evaluation.evaluate import evaluate

ITK_SNAP = """################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Left kidney"
    2     0  255    0      0.5  1  1    "Spleen"
    3     0    0  255        1  1  0    "Never drawn"
"""
BIDS = "index\tname\tcolor\n0\tBackground\t#000000\n1\tLeft kidney\t#ff0000\n2\tSpleen\t#00ff00\n"
SWAPPED = json.dumps({"0": "background", "1": "Left kidney", "2": "Spleen"})
PLAIN = json.dumps({"labels": {"background": 0, "Left kidney": 1, "Spleen": 2}})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("predictions.json", PLAIN),
        ("itk.label", ITK_SNAP),
        ("a.txt", ITK_SNAP),
        ("dseg.tsv", BIDS),
        ("labels.json", SWAPPED),
        ("labels.json", PLAIN),
    ],
    ids=["predictions", "itk-snap", "text", "bids", "values", "names"],
)
@pytest.mark.parametrize("folder", ["labels", "."])
def test_labels_are_named_by_a_file_beside_the_masks(tmp_path, folder, name, text):
    put_scans(tmp_path, "images/a.nii.gz", "images/b.nii.gz")
    put_masks(tmp_path, "labels/a.nii.gz")
    put_masks(tmp_path, "labels/b.nii.gz", value=2)
    (tmp_path / folder / name).write_text(text)
    assert dict(open_dataset(tmp_path).labels) == {"background": 0, "Left kidney": 1, "Spleen": 2}
    masks = tmp_path / "labels"
    assert evaluate(masks, masks).scans["name"].unique().tolist() == ["Left kidney", "Spleen"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.txt", "1 is the kidney, 2 the spleen"),
        ("labels.json", "[1, 2]"),
        ("labels.json", "[" * 100_000),
        ("labels.json", '{"kidney": true, "spleen": -1}'),
        ("x_dseg.tsv", "index\tname\none\tkidney\n"),
        ("a.label", '1 255 0 0 1 1 1 "twice"\n2 255 0 0 1 1 1 "twice"\n0 0 0 0 0 0 0 "Clear Label"\n'),
        ("a.label", "\x80" * 10),
    ],
)
def test_other_files_name_nothing(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="latin-1")
    assert named_values([tmp_path, tmp_path / "gone"]) == {}
