"""Folders as they lie about: what check, convert and predict say of them, in one paragraph that helps."""

import os
import zipfile

import numpy as np
import pytest
from made_dicom import make_series
from tiny_scans import put_masks, put_scans

from segment.commands import check, convert
from segment.config.compose import compose
from segment.data import open_dataset
from segment.errors import UserError
from segment.inference.inputs import find_scans, notes_on


def labels_alone(root):
    put_masks(root, "labels/a.nii.gz")


def archive(root):
    with zipfile.ZipFile(root / "Data.ZIP", "w") as packed:
        packed.writestr("inner.zip", b"")


def nothing(root):
    (root / "notes.docx").write_bytes(b"PK")


def dangling(root):
    (root / "images").mkdir()
    (root / "images" / "a.nii.gz").symlink_to(root.parent / "nowhere.nii.gz")


def pipe(root):
    (root / "images").mkdir()
    os.mkfifo(root / "images" / "a.nii.gz")


@pytest.mark.parametrize(
    ("make", "inside", "said"),
    [
        (labels_alone, "", r"has no image file itself; its folder 'labels' has\. Give .*labels\.$"),
        (archive, "", r"has no image file, but the archive Data\.ZIP\. Unpack it\.$"),
        (nothing, "", r"has neither an image file nor a DICOM series\. Formats read: \.nii\.gz"),
        (dangling, "images", r"a\.nii\.gz does not exist or is not a file\. Check the path\.$"),
        (pipe, "images", r"a\.nii\.gz does not exist or is not a file\. Check the path\.$"),
    ],
)
def test_a_folder_without_scans_says_where_some_are(tmp_path, make, inside, said):
    root = tmp_path / "in"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=said):
        convert.run(compose("convert", [f"input={root / inside}", f"output={tmp_path / 'out'}"]))
    if not inside:
        with pytest.raises(UserError, match=said):
            list(find_scans(root, 1))


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (archive, "", r"in holds Data\.ZIP, an archive\. Unpack it\."),
        (labels_alone, "labels/a.nii.gz", r"a\.nii\.gz is one image\. Give the folder of the data set\."),
    ],
)
def test_what_is_no_data_set_says_what_it_is(tmp_path, make, name, said):
    root = tmp_path / "in"
    root.mkdir()
    make(root)
    with pytest.raises(UserError, match=said):
        open_dataset(root / name)


def test_dicom_beside_images_of_other_formats_is_named(tmp_path):
    make_series(tmp_path)
    put_scans(tmp_path, "a.nii.gz")
    assert [name for name, _ in find_scans(tmp_path, 1)] == ["a.nii.gz"]
    (note,) = notes_on(tmp_path)
    assert note.endswith("its 5 DICOM file(s) are left out, since images of other formats lie beside them.")


def test_a_table_whose_masks_are_missing_does_not_speak_of_none(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("image,label\n,\n,x\n")
    with pytest.raises(SystemExit) as ended:
        check.run(compose("check", ["data=auto", f"data.root={tmp_path}", f"cache={tmp_path / 'cache'}"]))
    assert ended.value.code == 2
    assert "None" not in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["read-only", "side files", "loop"])
def test_odd_but_sound_folders_are_read(tmp_path, mode):
    root = tmp_path / "Räume & Äöü (v2), neu"
    names = ("Müller #1", "b é", "c=3")
    put_scans(root, *(f"images/{name}.NII.GZ" for name in names))
    put_masks(root, *(f"labels/{name}.NII.GZ" for name in names))
    if mode == "read-only":
        for path in (root / "images", root / "labels", root):
            path.chmod(0o555)
    elif mode == "side files":
        for name in (".DS_Store", "images/._b é.nii.gz", "images/Thumbs.db"):
            (root / name).write_bytes(b"x")
    else:
        (root / "loop").symlink_to("..")
    assert [case.id for case in open_dataset(root).cases] == sorted(names)
    for path in (root, root / "images", root / "labels"):
        path.chmod(0o755)
    assert np.all([case.label is not None for case in open_dataset(root).cases])
