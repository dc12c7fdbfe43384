"""DICOM series among the inputs of predict, and the names of masks in other formats."""

import pytest
from made_dicom import make_series, voxels

from segment.errors import UserError
from segment.inference.inputs import find_scans, notes_on, renamed


def scout(index, dataset):
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def test_series_of_a_folder_or_of_a_file_are_scans(tmp_path):
    one = make_series(tmp_path / "a" / "ct")
    other = make_series(tmp_path / "b")
    make_series(tmp_path / "b", voxels((2, 6, 7)), prefix="S", change=scout)
    assert list(find_scans(tmp_path, 1)) == [("a_ct.nii.gz", [one[0]]), ("b.nii.gz", [other[0]])]
    assert list(find_scans(other[3], 1)) == [("b.nii.gz", [other[0]])]
    assert [note.partition(": ")[2] for note in notes_on(tmp_path)] == ["left out, a localiser."]
    with pytest.raises(UserError, match="a localiser"):
        list(find_scans(tmp_path / "b" / "S0000", 1))


def test_images_of_other_formats_in_a_folder_come_before_series_below_it(tmp_path):
    (tmp_path / "x.nii.gz").touch()
    make_series(tmp_path / "raw")
    assert [name for name, _ in find_scans(tmp_path, 1)] == ["x.nii.gz"]
    assert notes_on(tmp_path) == []


def test_masks_are_named_for_the_format_that_is_asked_for(tmp_path):
    (series,) = find_scans(make_series(tmp_path / "ct")[0], 1)
    assert renamed([series], "own") == [series]
    assert [name for name, _ in renamed([series], "rtstruct")] == ["ct.dcm"]
    image = ("x.nii.gz", [tmp_path / "x.nii.gz"])
    assert [name for name, _ in renamed([image], "seg.nrrd")] == ["x.seg.nrrd"]
    with pytest.raises(UserError, match=r"x\.nii\.gz is not of a DICOM series, which dicom_seg refers to"):
        renamed([image], "dicom_seg")
    with pytest.raises(UserError, match=r"two scans would have the mask x\.nrrd"):
        renamed([image, ("x.mha", [tmp_path / "x.mha"])], "nrrd")
