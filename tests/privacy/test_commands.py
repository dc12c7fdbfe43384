"""The commands: `check privacy=true` as text and JSON, and `convert anonymize=true`."""

import json
from pathlib import PurePath

import numpy as np
import pytest
from breakage import IMAGE
from made_dicom import SHAPE, make_series
from pydicom import dcmread
from told_files import MAKERS, NAME

from segment.commands import check, convert
from segment.config.compose import compose
from segment.data import open_dataset
from segment.errors import UserError
from segment.io.dicom.series import contents
from segment.io.images import read_label, write_label
from segment.privacy.names import numbered


@pytest.fixture
def data_set(make_dataset, tmp_path):
    """A sound data set, one image of which tells a name."""
    import nibabel as nib

    root = make_dataset(tmp_path / "in", n=4, shape=(6, 8, 7))
    path = root / IMAGE
    image = nib.load(path)
    image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header)
    image.header["descrip"] = NAME
    nib.save(image, path)
    return root


def test_check_lists_what_is_told_but_not_the_value(data_set, capsys):
    given = [f"{key}={value}" for key, value in {"data": "auto", "data.root": data_set}.items()]
    given.append(f"cache={data_set.parent / 'cache'}")
    check.run(compose("check", [*given, "format=json"]))
    assert json.loads(capsys.readouterr().out)["warnings"] == 0
    check.run(compose("check", [*given, "privacy=true", "format=json"]))
    problem = json.loads(capsys.readouterr().out)["problems"][0]
    assert (problem["severity"], problem["kind"], problem["file"]) == ("warning", "privacy", str(data_set / IMAGE))
    assert problem["what"] == "It holds a name (8 characters) in descrip."
    check.run(compose("check", [*given, "privacy=true"]))
    said = capsys.readouterr().out
    assert "Files tell something about patients" in said
    assert "anonymize=true" in said
    assert NAME not in said
    with pytest.raises(SystemExit):
        check.run(compose("check", [*given, "privacy=true", "strict=true"]))


def anonymize(source, output, *more: str) -> None:
    convert.run(compose("convert", [f"input={source}", f"output={output}", "anonymize=true", *more]))


def test_copies_of_dicom_keep_series_references_and_patients_apart(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    for patient in "ab":
        MAKERS["series"](source / patient, True)
    for file in (source / "b").iterdir():
        dataset = dcmread(file)
        dataset.PatientID, dataset.SeriesInstanceUID = "9", "1.2.3.4"
        dataset.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.1"  # the study's UID elsewhere
        dataset.save_as(file)
    anonymize(source, output)
    assert [len(series.files) for series in contents(output).series] == [5, 5]
    first, second = (dcmread(next((output / patient).iterdir())) for patient in "ab")
    assert (first.PatientID, second.PatientID) == ("ANON0001", "ANON0002")
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.StudyInstanceUID == second.SourceImageSequence[0].ReferencedSOPInstanceUID
    assert first.StudyInstanceUID.startswith("2.25.")
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert (first.PatientIdentityRemoved, first.StudyDate, first.PatientBirthDate) == ("YES", "", "")
    assert first.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert first.DeidentificationMethod[1] == "PS3.15 Basic Profile"


@pytest.mark.parametrize("kind", ["dicom_seg", "rtstruct"])
def test_annotations_stay_with_their_series(tmp_path, kind):
    archive, output, mask = tmp_path / "archive", tmp_path / "out", np.zeros(SHAPE, np.uint8)
    mask[1:3, 2:5, 1:4] = 1
    write_label(tmp_path / "masks" / "ct.nii.gz", mask, make_series(archive / "ct")[0])
    given = {"input": tmp_path / "masks", "output": archive / "ct", "reference": archive / "ct", "format": kind}
    convert.run(compose("convert", [f"{key}={value}" for key, value in given.items()] + ["labels={liver: 1}"]))
    anonymize(archive, output)
    (case,) = open_dataset(output, cache=tmp_path / "cache").cases
    np.testing.assert_array_equal(read_label(case.label).array, mask)
    assert not any(b"Doe" in file.read_bytes() for file in (output / "ct").iterdir())


def test_what_cannot_be_copied_is_named_and_the_others_are_written(tmp_path, capsys):
    source, output = tmp_path / "in", tmp_path / "out"
    MAKERS["series"](source / "burned", False)
    for file in (source / "burned").iterdir():
        dataset = dcmread(file)
        dataset.BurnedInAnnotation = "YES"
        dataset.save_as(file)
    MAKERS["scan.nrrd"](source / "Doe^Jane.nrrd", True)
    (source / "damaged.nii").write_bytes(b"n")
    (source / "other.pgm").write_bytes(b"P5 1 1 255 1")
    (source / "scans.csv").write_text("name")
    with pytest.raises(UserError, match=r"7 of 8 files .*damaged.nii cannot.*copies of .pgm.*text in pixels is not"):
        anonymize(source, output)
    said = capsys.readouterr().err
    assert "scans.csv: not copied" in said
    assert "Doe^Jane.nrrd: keeps its telling name" in said
    assert [path.name for path in output.rglob("*") if path.is_file()] == ["Doe^Jane.nrrd"]
    with pytest.raises(UserError, match="overwrite the inputs"):
        anonymize(source, source, "overwrite=true")
    with pytest.raises(UserError, match="format: anonymize=true copies"):
        anonymize(source, output, "format=mha")


def test_numbered_names_keep_layouts_and_the_table_stays_outside(tmp_path, make_dataset):
    source, output, table = tmp_path / "in", tmp_path / "out", tmp_path / "names.csv"
    make_dataset(source, layout="folders", n=2, shape=(6, 8, 7), channels=2)
    for file in source.rglob("case_*"):
        file.rename(file.with_name(file.name.replace("case_a00", "Doe_Jane").replace("case_b01", "Roe_19700325")))
    with pytest.raises(UserError, match=r"names_table=.*would go wherever"):
        anonymize(source, output, "names=numbered", f"names_table={output / 'names.csv'}")
    anonymize(source, output, "names=numbered", f"names_table={table}")
    assert sorted(file.name for file in output.rglob("*.nii.gz")) == sorted(
        f"scan_000{scan}{end}.nii.gz" for scan in (1, 2) for end in ("", "_0000", "_0001")
    )
    dataset = open_dataset(output, cache=tmp_path / "cache")
    old = open_dataset(source, cache=tmp_path / "cache")
    assert [case.id for case in dataset.cases] == ["scan_0001", "scan_0002"]
    for before, after in zip(old.cases, dataset.cases, strict=True):
        np.testing.assert_array_equal(read_label(before.label).array, read_label(after.label).array)
    lines = table.read_text().splitlines()
    assert lines[0] == "old,new"
    assert "images/Doe_Jane_0000.nii.gz,images/scan_0001_0000.nii.gz" in lines
    assert not any("Doe" in path.name or "Roe" in path.name for path in output.rglob("*"))
    with pytest.raises(UserError, match="Give anonymize=true"):
        convert.run(compose("convert", [f"input={source}", f"output={output}", "names=numbered"]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Doe/img.nii.gz", "folder_0001/img.nii.gz"),
        ("Doe/t1.nii.gz", "folder_0001/t1.nii.gz"),
        ("imagesTr/Doe_0001.nii.gz", "imagesTr/scan_0001_0001.nii.gz"),
        ("imagesTr/Doe_1970.nii.gz", "imagesTr/scan_0001.nii.gz"),
        ("Doe_seg.seg.nrrd", "scan_0001_seg.seg.nrrd"),
        ("train/images/Jane.Doe-T1w.png", "train/images/scan_0001-T1w.png"),
        ("0001.png", "scan_0001.png"),
        ("IM0001", "scan_0001"),
    ],
)
def test_what_stays_of_a_name(old, new):
    assert str(numbered([PurePath(old)])[PurePath(old)]) == new
