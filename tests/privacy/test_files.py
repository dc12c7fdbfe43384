"""What files tell about patients: every planted value is found and not repeated, and copies hold none of them."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from told_files import MAKERS, SECRETS, gzip_name

from segment.data.check.privacy import judge_privacy
from segment.errors import UserError
from segment.io.images import read_header, read_image
from segment.privacy import files, nifti
from segment.privacy.files import copies, examine, findings_in
from segment.privacy.values import DATE, ID, NAME, PLACE, TEXT, UNEXAMINED, looks_like

PLANTED = {
    "scan.nii.gz": {"descrip": NAME, "aux_file": ID, "intent_name": DATE, "extension 6 (comment)": NAME}
    | {"extension 4 (AFNI)": TEXT},
    "scan.nrrd": {"content": NAME, "comment": DATE, "patient": ID},
    "scan.mha": {"Comment": NAME, "AcquisitionDate": DATE},
    "mask.png": {"Author": NAME, "Comment": DATE, "Description": ID, "bytes after the image": NAME}
    | {"Exif Artist": NAME, "Exif DateTimeOriginal": DATE, "Exif GPS": PLACE},
    "eye.jpg": {"comment": ID, "Exif Artist": NAME, "Exif DateTimeOriginal": DATE, "Exif GPS": PLACE}
    | {"bytes after the image": NAME},
    "plain.tif": {"Artist": NAME, "DateTime": DATE, "ImageDescription": DATE, "tag 65000": ID},
    "imagej.tif": {"ImageDescription": NAME, "ImageJ info": TEXT},
    "ome.ome.tif": {"ImageDescription": DATE},
    "series": {"PatientName": NAME, "PatientBirthDate": DATE, "PatientID": ID, "StationName": NAME}
    | {"InstitutionName": NAME, "PatientComments": NAME, "UIDs": ID, "private tags": TEXT, "overlays or curves": TEXT},
}


def planted(name: str) -> dict[str, str]:
    same = {"scan.nii": "scan.nii.gz", "second2.nii.gz": "scan.nii.gz", "packed.nrrd": "scan.nrrd"}
    return PLANTED[{**same, "packed.mha": "scan.mha"}.get(name, name)]


def content(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", MAKERS)
def test_planted_values_are_found_and_copies_hold_none_of_them(tmp_path, name):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    MAKERS[name](source / name, True)
    before = content(source)
    found = examine(source)
    assert {item.field: item.kind for item in found} == planted(name)
    said = " ".join(map(str, judge_privacy(source, None)))
    assert not any(secret in said.replace(str(tmp_path), "") for secret in SECRETS)
    planned, left = copies(source, output)
    for copy in planned:
        copy.write()
    assert left == []
    assert examine(output) == []
    assert not any(secret.encode() in path.read_bytes() for path in output.rglob("*.*") for secret in SECRETS)
    first, second = planned[0].source, planned[0].target
    assert read_header(first).dtype == read_header(second).dtype
    one, other = read_image(first), read_image(second)
    np.testing.assert_array_equal(one.array, other.array)
    np.testing.assert_array_equal(one.grid.affine, other.grid.affine)
    assert content(source) == before
    assert sorted(path.name for path in output.rglob("*") if path.is_file()) == sorted(
        path.name for path in source.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("name", MAKERS)
def test_a_clean_file_tells_nothing(tmp_path, name):
    MAKERS[name](tmp_path / name, False)
    assert examine(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, NAME) for text in ("Doe^Jane", "Doe, Jane", "MRN_12")),
        *((text, DATE) for text in ("ct_19700325", "1970-03-25T12", "25.03.1970", "20200131235959")),
        *((text, ID) for text in ("P4815162", "1970133")),
        *(
            (text, None)
            for text in ("case_00012345", "patient_001", "0.1970012", "imagesTr", "BraTS2021_00012", "LIDC-IDRI-0001")
        ),
    ],
)
def test_what_a_file_name_tells(text, kind):
    assert looks_like(text) == kind


def test_names_tables_sidecars_and_what_is_not_examined(tmp_path):
    (tmp_path / "Doe^Jane").mkdir()
    (tmp_path / "Doe^Jane" / "a.mgz").write_bytes(b"")
    (tmp_path / "b.nii").write_bytes(b"too short")
    (tmp_path / "scans.csv").write_text("case;birth_date;note;name;mm3\n1;1970-03-25;seen 25.03.1970;;123456\n2;;;\n")
    (tmp_path / "scan.json").write_text('{"PatientName": "Doe", "EchoTime": 2, "AcquisitionTime": "12:00:00"}')
    (tmp_path / "splits.json").write_text('[{"train": ["a"]}]')
    found = {(item.file.relative_to(tmp_path).as_posix(), item.field): item.kind for item in examine(tmp_path)}
    assert found == {
        ("Doe^Jane", "name"): NAME,
        ("Doe^Jane/a.mgz", ".mgz"): UNEXAMINED,
        ("b.nii", "file"): UNEXAMINED,
        ("scans.csv", "column birth_date"): DATE,
        ("scans.csv", "column note"): DATE,
        ("scan.json", "key PatientName"): NAME,
        ("scan.json", "key AcquisitionTime"): DATE,
    }


def test_the_name_in_a_gzip_header(tmp_path):
    path = tmp_path / "scan.nii.gz"
    MAKERS[path.name](path, False)
    gzip_name(path, "doe_jane.nii")
    assert [(item.field, item.kind) for item in findings_in(path)] == [("file name within gzip", TEXT)]
    assert findings_in(path.rename(tmp_path / "doe_jane.nii.gz")) == []


def _without_voxels(path: Path, copy: Path) -> None:
    nifti.clean(path, copy)
    content = copy.read_bytes()
    copy.write_bytes(content[:352] + bytes(len(content) - 352))


@pytest.mark.parametrize(
    ("clean", "reason"), [(shutil.copyfile, "descrip cannot be removed"), (_without_voxels, "would hold other voxels")]
)
def test_a_copy_that_tells_something_or_differs_does_not_appear(tmp_path, monkeypatch, clean, reason):
    monkeypatch.setattr(files, "_KINDS", (files._Kind((".nii",), nifti.find, clean),))
    MAKERS["scan.nii"](tmp_path / "scan.nii", True)
    with pytest.raises(UserError, match=reason):
        copies(tmp_path, tmp_path / "out")[0][0].write()
    assert list((tmp_path / "out").iterdir()) == []


def test_the_files_of_a_dicom_folder_are_listed_together(tmp_path):
    MAKERS["series"](tmp_path / "ct", True)
    told = {problem.what for problem in judge_privacy(tmp_path, None)}
    assert "It holds a name (8 characters) in PatientName, as in 4 more files of this folder." in told
    assert len(told) == len(PLANTED["series"])
