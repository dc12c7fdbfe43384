import importlib
import json
import os

import numpy as np
import pytest

from segment.errors import UserError
from segment.io import formats, images
from segment.io.formats import is_image_file, registry, stem, suffix


@pytest.mark.parametrize(
    ("name", "base", "end", "known"),
    [
        ("a.nii.gz", "a", ".nii.gz", True),
        ("a.b.NII.GZ", "a.b", ".nii.gz", True),
        ("a.nii", "a", ".nii", True),
        ("._a.nii.gz", "._a", ".nii.gz", False),
        ("a.tar.gz", "a.tar", ".gz", False),
        ("a", "a", "", False),
    ],
)
def test_names(name, base, end, known):
    assert (stem(name), suffix(name), is_image_file(name)) == (base, end, known)


@pytest.fixture
def register(formats_restored):
    """The register, restored after the test."""
    return formats.register


@pytest.fixture
def raw3(register):
    return importlib.import_module("raw3_format")


def write(path, **header):
    header = {"shape": [2, 3, 4], "affine": np.eye(4).tolist(), "dtype": "<i2"} | header
    path.write_bytes(json.dumps(header).encode() + b"\n" + np.arange(24, dtype="<i2").tobytes())
    return path


def test_custom_format_is_read_written_and_listed(raw3, tmp_path):
    image = images.read_image(write(tmp_path / "a.RAW3"))
    np.testing.assert_array_equal(image.array, np.arange(24).reshape(1, 2, 3, 4))
    images.write_label(tmp_path / "b.nii.gz", np.ones((2, 3, 4), int), tmp_path / "a.RAW3")
    images.write_label(tmp_path / "c.raw3", images.read_label(tmp_path / "b.nii.gz").array, tmp_path / "b.nii.gz")
    assert images.read_label(tmp_path / "c.raw3").array.tolist() == np.ones((2, 3, 4)).tolist()
    (tmp_path / "d.webp").touch()
    with pytest.raises(UserError, match=r"the formats are \.nii\.gz, .*\.hdf5, .*\.raw3\."):
        images.read_image(tmp_path / "d.webp")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"shape": [9999, 9999, 9999]}, "declares 1,999,400,059,998 bytes"),
        ({"channels": 9}, "declares 432 bytes"),
        ({"shape": [-2, -3, 4]}, r"declares the shape \(-2, -3, 4\)"),
        ({"shape": [2, 3, 0]}, "declares the shape"),
        ({"shape": [2.0, 3.0, 4.0]}, "declares the shape"),
        ({"shape": [1, 2, 3, 4]}, "declares the shape"),
        ({"channels": 0}, "0 channels"),
        ({"affine": np.zeros((4, 4)).tolist()}, "impossible geometry"),
        ({"dtype": "S0", "shape": [9999, 9999, 9999]}, r"unsupported type \|S0"),
        ({"dtype": "no"}, "cannot be read.*Raw3: TypeError"),
    ],
)
def test_headers_of_a_custom_format_are_checked_too(raw3, tmp_path, monkeypatch, header, said):
    monkeypatch.setattr(raw3.Raw3, "read_voxels", lambda *_: pytest.fail("voxels were read"))
    with pytest.raises(UserError, match=said):
        images.read_image(write(tmp_path / "a.raw3", **header))


def test_unsupported_content_is_refused(raw3, tmp_path):
    images.write_label(tmp_path / "a.nii", np.ones((3, 4), int), _flat(tmp_path))
    with pytest.raises(UserError, match=r"\.raw3 cannot store this mask \(2D"):
        images.write_label(tmp_path / "a.raw3", np.ones((3, 4), int), tmp_path / "a.nii")


def _flat(folder):
    from PIL import Image

    Image.fromarray(np.ones((3, 4), np.uint8)).save(folder / "flat.png")
    return folder / "flat.png"


def test_the_longest_suffix_is_the_format(register):
    class Packed(type(registry.format_of("a.nii"))):
        suffixes = (".gz", ".a.nii.gz")

    register(Packed())
    assert [suffix(name) for name in ("a.gz", "a.nii.gz", "b.a.nii.gz")] == [".gz", ".nii.gz", ".a.nii.gz"]
    assert stem("b.a.nii.gz") == "b"
    assert formats.version_of("a.gz")
    assert not formats.version_of("a.nii.gz")
    assert formats.version_of("a.tif")  # read otherwise than in version 0.1: what was cached then is computed anew


@pytest.mark.parametrize(
    ("suffixes", "said"),
    [
        ((".nii",), "already read by Nifti"),
        (("nii2",), "not a suffix"),
        ((".NII2",), "not a suffix"),
        ((".a/b",), "not a suffix"),
        ((".new", "."), "not a suffix"),
        (".new", r"give a tuple: \('\.new',\)"),
    ],
)
def test_invalid_suffixes_are_refused(register, suffixes, said):
    kind = type("Mine", (type(registry.format_of("a.nii")),), {"suffixes": suffixes})
    with pytest.raises((ValueError, TypeError), match=said):
        register(kind())
    assert ".new" not in formats.suffixes()


def test_objects_that_are_not_formats_are_refused(register):
    class Half(formats.ImageFormat):
        suffixes = (".half",)

        def read_header(self, path): ...

    with pytest.raises(TypeError, match=r"abstract.*read_voxels"):
        register(Half())
    with pytest.raises(TypeError, match="object has no suffixes"):
        register(object())


def test_modules_are_imported_once_and_passed_to_processes(register, tmp_path, monkeypatch):
    (tmp_path / "good_format.py").write_text("")
    (tmp_path / "bad_format.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    formats.import_formats("good_format")
    formats.import_formats(["good_format"])
    assert os.environ["SEGMENT_FORMATS"] == "good_format"
    for name, said in (("bad_format", "division"), ("no_format", "No module"), (7, "int")):
        with pytest.raises(UserError, match=f"formats: {name} cannot be imported .*{said}"):
            formats.import_formats([name])
    assert os.environ["SEGMENT_FORMATS"] == "good_format"
