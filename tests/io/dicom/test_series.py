"""Series as they come from scanners: order, grid and values are those of SimpleITK's GDCM; refusals name the reason."""

import shutil
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from made_dicom import EIGHT, ORIGIN, SPACING, make_enhanced, make_series, voxels
from pydicom.encaps import encapsulate

from segment.errors import UserError
from segment.io.dicom.names import named_series
from segment.io.dicom.series import contents
from segment.io.images import read_header, read_image

REAL = Path(pydicom.__file__).parent / "data" / "test_files"
LPS = np.diag([-1.0, -1.0, 1.0])


def gdcm(folder, uid="") -> tuple[np.ndarray, np.ndarray]:
    """Values (z, y, x) and affine of a series in a folder, by default the only one, as SimpleITK's GDCM reads it."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = LPS @ np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = LPS @ image.GetOrigin()
    return sitk.GetArrayFromImage(image), affine


def set_rescale(slope, intercept):
    def change(index, dataset):
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept

    return change


def compressed(syntax):
    def change(index, dataset):
        dataset.compress(syntax)

    return change


def lossless_jpeg(index, dataset):
    """The most common compression of CT and MR in archives, which pydicom cannot write."""
    frame = imagecodecs.jpeg8_encode(dataset.pixel_array.view(np.uint16), lossless=True)
    dataset.PixelData = encapsulate([frame])
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    dataset["PixelData"].is_undefined_length = True


def unsigned_12_bits(index, dataset):
    """Twelve bits, with an overlay in the bits above, as old scanners write."""
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    stored = np.frombuffer(dataset.PixelData, "<u2") | 0x8000
    dataset.PixelData = stored.tobytes()


@pytest.mark.parametrize(
    "made",
    [
        *[{"orientation": orientation} for orientation in EIGHT],
        {"big_endian": True},
        {"change": set_rescale(0.37, -3.5)},
        {"change": set_rescale(2, 0)},
        {"change": unsigned_12_bits},
        {"change": lossless_jpeg},
        {"change": compressed("1.2.840.10008.1.2.5")},
        {"change": compressed("1.2.840.10008.1.2.4.80")},
        {"change": compressed("1.2.840.10008.1.2.4.90"), "array": voxels((3, 40, 40))},
    ],
)
def test_a_series_has_the_grid_and_the_values_that_gdcm_reads(tmp_path, made):
    files = make_series(tmp_path, **made)
    values, affine = gdcm(tmp_path)
    found = read_image(files[2])  # any file stands for the whole
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(found.array[0], values.astype(np.float32))
    assert found.array.std() > 1
    assert read_header(files[2]).declared_bytes == found.array.size * 2


@pytest.mark.parametrize("name", ["CT_small", "MR_small_bigendian", "MR_small_RLE", "693_J2KI", "examples_overlay"])
def test_slices_of_real_scanners_have_the_values_that_gdcm_reads(tmp_path, name):
    path = Path(shutil.copy(REAL / f"{name}.dcm", tmp_path))
    image, found = sitk.ReadImage(str(path)), read_image(path)
    np.testing.assert_array_equal(found.array[0], sitk.GetArrayFromImage(image).astype(np.float32))
    np.testing.assert_allclose(found.grid.affine[:3, 3], LPS @ image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(found.grid.spacing[1:], image.GetSpacing()[1::-1], atol=1e-4)


def test_a_real_series_among_others_has_the_grid_and_the_values_that_gdcm_reads():
    (series,) = [item for item in contents(REAL / "dicomdirtests").series if item.number == "5"]
    values, affine = gdcm(series.path.parent, series.uid)
    found = read_image(series.path)
    np.testing.assert_array_equal(found.array[0], values.astype(np.float32))
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-4)


def test_slices_of_a_made_series_lie_where_they_were_put(tmp_path):
    files = make_series(tmp_path)
    found = read_image(files[0])
    expected = LPS @ (np.array(ORIGIN) + np.array([3, 2, 4]) * np.array(SPACING[::-1]))  # voxel x=3, y=2, z=4
    np.testing.assert_allclose((found.grid.affine @ [3, 2, 4, 1])[:3], expected, atol=1e-6)
    assert found.array[0, 4, 2, 3] == voxels()[4, 2, 3] - 1024


def test_each_slice_is_rescaled_by_its_own_slope(tmp_path):
    def rescale(index, dataset):
        dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "PT", 0.5 + index, 0

    files = make_series(tmp_path, change=rescale)
    slopes = 0.5 + np.arange(5)
    np.testing.assert_array_equal(read_image(files[0]).array[0], voxels() * slopes[:, None, None].astype(np.float32))


@pytest.mark.parametrize("orientation", [EIGHT[0], EIGHT[7]])
def test_frames_of_one_file_are_slices_by_position(tmp_path, orientation):
    slopes = [1, 2, 0.5, 3, 4]
    make_enhanced(tmp_path / "enhanced", voxels(), orientation, slopes)
    found = read_image(tmp_path / "enhanced")
    np.testing.assert_array_equal(found.array[0], voxels() * np.array(slopes, np.float32)[:, None, None])
    make_series(tmp_path / "single", orientation=orientation)
    np.testing.assert_allclose(found.grid.affine, gdcm(tmp_path / "single")[1], atol=1e-4)


def test_a_modality_table_gives_the_values(tmp_path):
    def table(index, dataset):
        from pydicom.dataset import Dataset

        item = Dataset()
        item.LUTDescriptor, item.ModalityLUTType = [256, 0, 16], "US"
        item.LUTData = np.arange(256, dtype="<u2")[::-1].tobytes()
        dataset.ModalityLUTSequence = [item]
        del dataset.RescaleSlope, dataset.RescaleIntercept
        dataset.PixelRepresentation = 0

    files = make_series(tmp_path, change=table)
    np.testing.assert_array_equal(read_image(files[0]).array[0], 255 - voxels())


def without(*names):
    def change(index, dataset):
        for name in names:
            setattr(dataset, name, "")

    return change


def test_series_without_uids_are_found(tmp_path):
    files = make_series(tmp_path, change=without("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID"))
    np.testing.assert_array_equal(read_image(files[3]).array[0], voxels() - 1024)


def test_mixed_files_are_told_apart_and_what_is_no_scan_is_named(tmp_path):
    make_series(tmp_path, prefix="A")
    make_series(tmp_path, prefix="B", seed=1, orientation=EIGHT[5])
    make_series(tmp_path / "sub", prefix="C", array=voxels((1, 6, 7)))

    def scout(index, dataset):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    def screen(index, dataset):
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"

    make_series(tmp_path, array=voxels((2, 6, 7)), prefix="L", change=scout)
    make_series(tmp_path, array=voxels((1, 6, 7)), prefix="S", change=screen)
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x00")
    found = contents(tmp_path)
    assert sorted((item.path.name[0], len(item.files)) for item in found.series) == [("A", 5), ("B", 5), ("C", 1)]
    reasons = {item.reason: sorted(file.name[0] for file in item.files) for item in found.left_out}
    assert reasons.pop("a localiser") == ["L", "L"]
    assert reasons.pop("a secondary capture, a picture of a screen or a film") == ["S"]
    assert list(reasons.values()) == [["d"]]
    for file, words in ((tmp_path / "L0000", "a localiser"), (tmp_path / "damaged.dcm", "not read")):
        with pytest.raises(UserError, match=words):
            read_image(file)


def test_scans_are_named_after_folders_and_numbers(tmp_path):
    for folder, number, prefix in (("P1/ct", 1, "A"), ("P2", 1, "A"), ("P2", 1, "B"), ("P2", 7, "C")):

        def numbered(index, dataset, number=number):
            dataset.SeriesNumber = number

        make_series(tmp_path / folder, prefix=prefix, change=numbered)
    for name in ("left.dcm", "right.dcm"):
        (file,) = make_series(
            tmp_path / "views", voxels((1, 6, 7)), prefix=name, change=without("ImagePositionPatient")
        )
        file.rename(file.with_name(name))
    names = named_series(tmp_path, contents(tmp_path).series)
    assert [*names] == ["P1_ct", "P2_1", "P2_1-2", "P2_7", "views_left", "views_right"]
    assert names["views_left"].grid.ndim == 2


def test_copies_of_slices_are_left_out_and_said(tmp_path):
    files = make_series(tmp_path)
    (tmp_path / "copy").write_bytes(files[1].read_bytes())
    found = contents(tmp_path).series
    assert len(found) == 1
    assert found[0].grid.shape == (5, 6, 7)
    assert "1 file(s) are copies" in found[0].stack.notes[0]


def test_a_series_spread_over_folders_is_left_out(tmp_path):
    for part in (0, 1):
        make_series(tmp_path / str(part), uid="1.2.3.4", change=lambda index, dataset, part=part: index % 2 == part)
    found = contents(tmp_path)
    assert not found.series
    assert "spread over folders" in found.left_out[0].reason


def test_images_of_one_position_are_volumes_if_an_attribute_tells_them_apart(tmp_path):
    for echo in (1, 2):

        def mark(index, dataset, echo=echo):
            dataset.EchoNumbers = echo

        make_series(tmp_path, uid="1.2.3.4", prefix=f"E{echo}", seed=echo, change=mark)
    found = contents(tmp_path).series
    assert [len(item.files) for item in found] == [5, 5]
    for item in found:
        np.testing.assert_array_equal(read_image(item.path).array[0], voxels(seed=int(item.path.name[1])) - 1024)
    for file in tmp_path.iterdir():
        data = file.read_bytes()
        file.write_bytes(data.replace(b"\x18\x00\x86\x00IS", b"\x18\x00\x87\x00DS"))  # no echo any more
    with pytest.raises(UserError, match="5 of its 5 positions have several different slices"):
        read_image(next(tmp_path.iterdir()))


def moved(offsets):
    """Move slices by index, in mm of LPS+."""

    def change(index, dataset):
        if index not in offsets:
            return True
        place = np.array(dataset.ImagePositionPatient, float) + offsets[index]
        dataset.ImagePositionPatient = [f"{value:.10g}" for value in place]
        return True

    return change


def turned(index, dataset):
    if index == 2:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index, dataset: index != 2, r"1 slice is missing, between the positions 47.5 and 52.5 mm"),
        (moved({3: [0, 0, 1], 4: [0, 0, 2]}), "2.5 to 3.5 mm apart"),
        (moved({index: [0, index * 2.5 * np.tan(np.radians(15)), 0] for index in range(5)}), "tilted by 15 degrees"),
        (turned, "different orientations, as in a localiser"),
        (without("ImagePositionPatient"), "lack position"),
    ],
)
def test_slices_that_are_no_volume_are_refused_with_the_reason(tmp_path, change, words):
    files = make_series(tmp_path, change=change)
    with pytest.raises(UserError, match=words):
        read_image(files[0])


def test_small_deviations_of_positions_are_rounding(tmp_path):
    files = make_series(tmp_path, change=moved({2: [0.01, 0, 0.05]}))
    assert read_image(files[0]).grid.spacing == pytest.approx(SPACING)


def test_a_frame_that_unpacks_to_another_size_is_refused_before_it_is_decoded(tmp_path):
    def swollen(index, dataset):
        dataset.compress("1.2.840.10008.1.2.4.90")
        size = np.array([40, 40], ">u4")
        data = dataset.PixelData
        place = data.index(b"\xff\x4f\xff\x51") + 8
        assert data[place : place + 8] == size.tobytes()
        dataset.PixelData = data[:place] + np.array([60_000, 60_000], ">u4").tobytes() + data[place + 8 :]

    files = make_series(tmp_path, voxels((3, 40, 40)), change=swollen)
    with pytest.raises(UserError, match=r"compressed pixels are \(60000, 60000, 1\)"):
        read_image(files[0])


def test_a_header_of_more_voxels_than_its_files_is_refused(tmp_path):
    def huge(index, dataset):
        dataset.Rows = dataset.Columns = 60_000

    files = make_series(tmp_path, change=huge)
    with pytest.raises(UserError, match="cannot contain them"):
        read_image(files[0])


def test_without_pydicom_it_is_said_what_to_install(tmp_path, monkeypatch):
    make_series(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"install segment\[dicom\]"):
        contents(tmp_path)
