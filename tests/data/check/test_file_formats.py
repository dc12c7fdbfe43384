"""Data sets whose files were once read wrong: channels of TIFF, palettes of PNG, voxels beside their header."""

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from segment.data import open_dataset
from segment.data.check.dataset import check_dataset
from segment.errors import UserError

SHAPE = (24, 32)
CASES = "abcd"


def checked(root, cache=None):
    return check_dataset(lambda report: open_dataset(root, report=report), root, cache)


@pytest.fixture
def folders(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "set" / name).mkdir(parents=True)
    return tmp_path / "set"


def masks(folders):
    """Two structures, by the indices of a palette as in Pascal VOC."""
    for number, case in enumerate(CASES):
        mask = np.zeros(SHAPE, np.uint8)
        mask[4:12, 4 + number : 20], mask[14:20, 6:30] = 1, 2
        image = Image.fromarray(mask, "P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(folders / "labels" / f"{case}.png")


def test_five_channels_and_a_palette_are_a_sound_data_set(folders):
    values = np.random.default_rng(0).integers(0, 65536, (len(CASES), *SHAPE, 5)).astype(np.uint16)
    for case, pixels in zip(CASES, values, strict=True):
        tifffile.imwrite(folders / "images" / f"{case}.tif", pixels, photometric="minisblack", planarconfig="contig")
    masks(folders)
    found = checked(folders)
    assert found.problems == ()
    assert found.dataset.channels == tuple(f"channel_{number}" for number in range(5))
    assert list(found.dataset.labels.values()) == [0, 1, 2]
    assert [len(survey.intensities) for survey in found.surveys.values()] == [5] * len(CASES)


def test_photographs_are_a_sound_data_set_but_no_masks(folders):
    values = np.random.default_rng(0).integers(0, 256, (len(CASES), *SHAPE)).astype(np.uint8)
    for case, pixels in zip(CASES, values, strict=True):
        Image.fromarray(pixels).save(folders / "images" / f"{case}.jpg")
    masks(folders)
    assert checked(folders).problems == ()
    (folders / "labels" / "b.png").unlink()
    Image.fromarray(values[1] // 128).save(folders / "labels" / "b.jpg")
    (problem,) = checked(folders).problems
    assert problem.file.endswith("b.jpg")
    assert "it is a JPEG, whose compression changes labels" in problem.what


def test_facts_follow_the_file_with_the_voxels(folders, tmp_path):
    for case in CASES:
        pixels = np.random.default_rng(ord(case)).integers(0, 256, (3, *SHAPE)).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(folders / "images" / f"{case}.mhd"))
        sitk.WriteImage(sitk.GetImageFromArray((pixels > 99).astype(np.uint8)), str(folders / "labels" / f"{case}.mha"))
    before = checked(folders, tmp_path / "cache")
    raw = folders / "images" / "b.raw"
    raw.write_bytes(raw.read_bytes()[::-1])
    after = checked(folders, tmp_path / "cache")
    assert before.problems == after.problems == ()
    digests = [[found.surveys[case].digest for case in CASES] for found in (before, after)]
    assert [old == new for old, new in zip(*digests, strict=True)] == [True, False, True, True]
    raw.unlink()
    (problem,) = checked(folders, tmp_path / "cache").problems
    assert "voxels in b.raw, which is not beside it" in problem.what


def test_a_file_in_an_unread_format_is_named(folders):
    masks(folders)
    for case in CASES:
        Image.fromarray(np.zeros(SHAPE, np.uint8)).save(folders / "images" / f"{case}.webp")
    with pytest.raises(UserError, match=r"a\.webp is there, but its format is not among those read"):
        open_dataset(folders)
