"""One mask per structure, and BIDS derivatives."""

import os

import nibabel as nib
import numpy as np
import pytest
from tiny_scans import put_masks, put_scans

from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.data.problems import WARNING
from segment.data.splits import folds
from segment.errors import UserError
from segment.io.images import read_label


def ids(cases):
    return [case.id for case in cases]


@pytest.fixture
def organs(tmp_path):
    """Four scans as TotalSegmentator has them: the liver is the first half, the spleen one corner of it."""
    root = tmp_path / "in"
    for number in range(4):
        put_scans(root, f"s{number}/ct.nii.gz")
        put_masks(root, f"s{number}/segmentations/liver.nii.gz", f"s{number}/segmentations/spleen.nii.gz")
        path = root / f"s{number}/segmentations/spleen.nii.gz"
        corner = np.zeros((4, 5, 3), np.uint8)
        corner[0, 0, 0] = number  # also a value above 1 is the structure, and one mask is empty
        nib.save(nib.Nifti1Image(corner, np.eye(4)), path)
    (root / "meta.csv").write_text("image_id;age;split\ns0;50;train\ns1;60;train\ns2;70;val\ns3;80;test\n")
    return root


def test_masks_of_structures_are_merged_and_the_table_states_the_parts(organs, tmp_path):
    options = {"cache": tmp_path}
    checked = check_dataset(lambda report: open_dataset(organs, report=report, **options), organs)
    assert checked.problems == ()
    dataset = checked.dataset
    assert dict(dataset.labels) == {"background": 0, "liver": 1, "spleen": 2}
    assert (dataset.channels, ids(dataset.cases), ids(dataset.test_cases)) == (("image",), ["s0", "s1", "s2"], ["s3"])
    assert folds(dataset) == [{"train": ["s0", "s1"], "val": ["s2"]}]
    assert dataset.cases[2].about == (("age", "70"),)
    mask = read_label(dataset.cases[2].label).array
    assert [int((mask == value).sum()) for value in (0, 1, 2)] == [30, 29, 1]
    assert set(dataset.cases[2].made_from) == {*(organs / "s2" / "segmentations").iterdir()}
    assert all(str(path) in checked.hashes for path in dataset.cases[2].made_from)

    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "masks").iterdir()}
    open_dataset(organs, **options)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "masks").iterdir()} == made
    os.utime(organs / "s2" / "segmentations" / "liver.nii.gz", ns=(1, 1))
    open_dataset(organs, **options)
    assert len(list((tmp_path / "masks").iterdir())) == len(made) + 1


def test_structures_are_chosen_by_name_and_missing_or_misplaced_masks_are_named(organs, tmp_path):
    options = {"labels": {"background": 0, "spleen": 7}, "cache": tmp_path}
    mask = read_label(open_dataset(organs, **options).cases[1].label).array
    assert sorted(np.unique(mask)) == [0, 7]
    (organs / "s0" / "segmentations" / "spleen.nii.gz").unlink()
    path = organs / "s1" / "segmentations" / "spleen.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 5, 3), np.uint8), np.diag([2.0, 1, 1, 1])), path)
    found = []
    dataset = open_dataset(organs, report=found.append, **options)
    assert [(p.severity, p.file) for p in found if "no mask of spleen" in p.what] == [
        (WARNING, str(organs / "s0" / "segmentations"))
    ]
    assert [p.file for p in found if "its grid differs" in p.what] == [str(path.parent)]
    assert ids(dataset.cases) == ["s0", "s2"]
    with pytest.raises(UserError, match=r"spleen\.nii\.gz: its grid differs from that of the image"):
        open_dataset(organs, **options)


def bids(root, subject, session="", modalities="T1w", mask="_desc-manual", run=""):
    """Write a subject's images, and its mask unless None."""
    folder = "/".join(part for part in (subject, session, "anat") if part)
    name = "_".join(part for part in (subject, session, run) if part)
    put_scans(root, *(f"{folder}/{name}_{modality}.nii.gz" for modality in modalities.split()))
    if mask is not None:
        put_masks(root, f"derivatives/manual/{folder}/{name}{mask}_dseg.nii.gz")


def test_bids_derivatives_are_matched_with_their_images(tmp_path):
    bids(tmp_path, "sub-01", modalities="T1w FLAIR")
    bids(tmp_path, "sub-02", "ses-a", "T1w FLAIR")
    bids(tmp_path, "sub-02", "ses-b", "T1w FLAIR", run="run-1")
    bids(tmp_path, "sub-02", "ses-b", mask=None)  # the mask of run 1 is not this scan's
    bids(tmp_path, "sub-03", mask=None)
    (tmp_path / "derivatives/manual/desc-manual_dseg.tsv").write_text("index\tname\n0\tBackground\n1\thippocampus\n")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t50\nsub-02\t60\nsub-03\t70\n")
    dataset = open_dataset(tmp_path)
    assert ids(dataset.cases) == ["sub-01", "sub-02_ses-a", "sub-02_ses-b_run-1"]
    assert [case.group for case in dataset.cases] == ["sub-01", "sub-02", "sub-02"]
    assert (dataset.channels, ids(dataset.test_cases)) == (("T1w",), ["sub-02_ses-b", "sub-03"])
    assert dict(dataset.labels) == {"background": 0, "hippocampus": 1}
    assert dataset.cases[2].images == (tmp_path / "sub-02/ses-b/anat/sub-02_ses-b_run-1_T1w.nii.gz",)
    assert dataset.cases[2].label.name == "sub-02_ses-b_run-1_desc-manual_dseg.nii.gz"
    assert dataset.cases[2].about == (("age", "60"),)
    both = open_dataset(tmp_path, channels=["FLAIR", "T1w"])
    assert [len(case.images) for case in both.cases] == [2, 2, 2]
    assert both.cases[0].images[0].name == "sub-01_FLAIR.nii.gz"
    assert both.test_cases == ()


@pytest.mark.parametrize(
    ("add", "said"),
    [
        ({"subject": "sub-01", "mask": "_desc-auto"}, "masks of the same scan"),
        ({"subject": "sub-02", "modalities": "FLAIR"}, "no modality is common to all scans"),
        ({"subject": "sub-02", "modalities": ""}, "mask has no image with the same name"),
    ],
)
def test_mistakes_in_bids_are_named(tmp_path, add, said):
    bids(tmp_path, "sub-01")
    bids(tmp_path, **add)
    with pytest.raises(UserError, match=said):
        open_dataset(tmp_path)
