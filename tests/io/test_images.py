import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from oriented import SHAPE, affine_of
from PIL import Image as Pillow

from segment.errors import UserError
from segment.io import images
from segment.io.formats import suffix
from segment.io.geometry import grid_difference


def write_scan(path, affine, array=None):
    """Write (z, y, x) with any of the volume formats, through its own library."""
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) if array is None else array
    if suffix(path) in (".nii", ".nii.gz"):
        nib.save(nib.Nifti1Image(array.T, affine), path)
        return path
    image = sitk.GetImageFromArray(array)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def world_of_itk(path, index):
    image = sitk.ReadImage(str(path))
    return np.array([-1, -1, 1]) * image.TransformIndexToPhysicalPoint([int(i) for i in index])


@pytest.mark.parametrize("end", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ASL"])
def test_read_image_gives_values_and_affine_of_every_format(tmp_path, end, codes):
    affine = affine_of(codes)
    image = images.read_image(write_scan(tmp_path / f"a{end}", affine))
    np.testing.assert_array_equal(image.array, np.arange(np.prod(SHAPE)).reshape(1, *SHAPE))
    assert image.array.dtype == np.float32
    assert image.grid.shape == SHAPE
    np.testing.assert_allclose(image.grid.affine, affine, atol=1e-5)
    np.testing.assert_allclose(image.grid.spacing, (3.0, 2.0, 1.5), rtol=1e-5)
    assert images.read_grid(tmp_path / f"a{end}").shape == SHAPE


@pytest.mark.parametrize("source", [".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("target", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_written_label_has_the_position_of_the_scan_in_both_libraries(tmp_path, source, target, codes):
    scan = write_scan(tmp_path / f"scan{source}", affine_of(codes))
    mask = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.int64)
    path = tmp_path / f"mask{target}"
    images.write_label(path, mask, scan)
    read = images.read_label(path)
    np.testing.assert_array_equal(read.array, mask)
    assert read.array.dtype == np.uint8
    assert grid_difference(images.read_grid(scan), read.grid, 1e-4) == ""
    for index in ([0, 0, 0], [5, 4, 3], [1, 4, 0]):
        np.testing.assert_allclose(world_of_itk(path, index), world_of_itk(scan, index), atol=1e-3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), mask)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (2, 1), (0, 1), (4, 0)])
def test_write_label_keeps_codes_units_and_zooms_of_a_nifti(tmp_path, sform, qform):
    scan = nib.Nifti1Image(np.ones(SHAPE[::-1], np.float32), None)
    scan.set_sform(affine_of("LAS"), sform)
    scan.set_qform(affine_of("LAS"), qform)
    scan.header.set_xyzt_units("mm", "sec")
    scan.header.set_slope_inter(2.0, 1.0)
    scan.header["cal_max"] = 300
    scan.header["descrip"], scan.header["aux_file"], scan.header["db_name"] = b"Doe^Jane", b"doe.txt", b"ward 7"
    scan.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"the patient's name"))
    nib.save(scan, tmp_path / "scan.nii.gz")
    images.write_label(tmp_path / "mask.nii.gz", np.full(SHAPE, 3), tmp_path / "scan.nii.gz")
    header, before = (nib.load(tmp_path / f"{name}.nii.gz").header for name in ("mask", "scan"))
    for key in ("sform_code", "qform_code", "xyzt_units", "pixdim", "srow_x", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(header[key], before[key])
    assert header.get_data_dtype() == np.uint8
    assert header["cal_max"] == 0
    assert len(before.extensions) == 1
    assert len(header.extensions) == 0
    assert [header[key].item() for key in ("descrip", "aux_file", "db_name")] == [b"segment", b"", b""]
    with gzip.open(tmp_path / "mask.nii.gz") as stream:
        raw = stream.read()
    assert struct.unpack_from("<2f", raw, 112) in [(1.0, 0.0), (0.0, 0.0)]  # scl_slope, scl_inter: values as stored
    assert set(raw[352:]) == {3}


@pytest.mark.parametrize(("value", "kind"), [(255, np.uint8), (256, np.uint16), (70000, np.int32), (-1, np.int32)])
def test_write_label_takes_the_smallest_type(tmp_path, value, kind):
    scan = write_scan(tmp_path / "scan.nii.gz", affine_of("RAS"))
    images.write_label(tmp_path / "mask.nii.gz", np.full(SHAPE, value), scan)
    assert nib.load(tmp_path / "mask.nii.gz").get_data_dtype() == kind
    assert images.read_label(tmp_path / "mask.nii.gz").array.max() == value


def test_failed_write_leaves_the_previous_mask(tmp_path, monkeypatch):
    scan = write_scan(tmp_path / "scan.nii.gz", affine_of("RAS"))
    images.write_label(tmp_path / "mask.nii.gz", np.ones(SHAPE, int), scan)

    def fail(_, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        images.write_label(tmp_path / "mask.nii.gz", np.zeros(SHAPE, int), scan)
    assert (images.read_label(tmp_path / "mask.nii.gz").array == 1).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.nii.gz", "scan.nii.gz"]


def test_write_label_refuses_another_shape_and_fractions(tmp_path):
    scan = write_scan(tmp_path / "scan.nii.gz", affine_of("RAS"))
    with pytest.raises(ValueError, match="does not match"):
        images.write_label(tmp_path / "mask.nii.gz", np.zeros((3, 5, 6), int), scan)
    with pytest.raises(ValueError, match="integers"):
        images.write_label(tmp_path / "mask.nii.gz", np.zeros(SHAPE), scan)
    with pytest.raises(UserError, match="png cannot store"):
        images.write_label(tmp_path / "mask.png", np.zeros(SHAPE, int), scan)
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nii.gz"]


@pytest.mark.parametrize("end", [".png", ".tif", ".tiff", ".nii.gz", ".mha"])
def test_2d_images_are_read_back(tmp_path, end):
    pixels = np.random.default_rng(1).integers(0, 255, (7, 9)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "scan.png", dpi=(300, 300))
    image = images.read_image(tmp_path / "scan.png")
    np.testing.assert_array_equal(image.array, pixels[None])
    assert image.grid.spacing == (1.0, 1.0)  # the printing resolution is not the pixel size
    images.write_label(tmp_path / f"mask{end}", (pixels > 99).astype(np.uint8) * 255, tmp_path / "scan.png")
    read = images.read_label(tmp_path / f"mask{end}")
    np.testing.assert_array_equal(read.array, (pixels > 99) * 255)
    assert grid_difference(image.grid, read.grid) == ""


@pytest.mark.parametrize(("mode", "bands", "channels"), [("L", 1, 1), ("RGB", 3, 3), ("RGBA", 4, 3)])
def test_colour_components_are_channels_without_alpha(tmp_path, mode, bands, channels):
    pixels = np.random.default_rng(2).integers(0, 255, (5, 6, bands)).astype(np.uint8)
    Pillow.fromarray(pixels.squeeze(), mode).save(tmp_path / "a.png")
    image = images.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.array, np.moveaxis(pixels, -1, 0)[:channels])
    assert images.count_channels(tmp_path / "a.png") == channels


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_colours_of_a_nifti_are_channels_without_alpha(tmp_path, names):
    values = np.random.default_rng(2).integers(0, 255, (*SHAPE, len(names))).astype(np.uint8)
    voxels = values.view([(name, "u1") for name in names])[..., 0]
    nib.save(nib.Nifti1Image(np.asfortranarray(voxels.T), affine_of("LPS")), tmp_path / "a.nii")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.nii").array, np.moveaxis(values, -1, 0)[:3])
    header = images.read_header(tmp_path / "a.nii")
    assert (header.colour, header.declared_bytes) == (True, values.nbytes)


@pytest.mark.parametrize("end", [".mha", ".nrrd"])
def test_vector_files_hold_channels(tmp_path, end):
    array = np.random.default_rng(3).normal(size=(*SHAPE, 2)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / f"a{end}"))
    np.testing.assert_array_equal(images.read_image(tmp_path / f"a{end}").array, np.moveaxis(array, -1, 0))


def test_the_last_axis_of_a_4d_nifti_is_channels(tmp_path):
    array = np.random.default_rng(4).normal(size=(3, *SHAPE)).astype(np.float32)
    nib.save(nib.Nifti1Image(array.T, affine_of("LPS")), tmp_path / "a.nii.gz")
    image = images.read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(image.array, array)
    assert image.grid.shape == SHAPE


def test_channel_files_are_stacked_and_must_share_the_grid(tmp_path):
    a = write_scan(tmp_path / "a.nii.gz", affine_of("RAS"))
    b = write_scan(tmp_path / "b.mha", affine_of("RAS"), np.full(SHAPE, 9, np.int16))
    image = images.read_image([a, b])
    assert image.array.shape == (2, *SHAPE)
    assert (image.array[1] == 9).all()
    c = write_scan(tmp_path / "c.nii.gz", affine_of("RAS", spacing=(1.5, 2.0, 3.5)))
    with pytest.raises(UserError, match=r"c\.nii\.gz.*grid.*spacing \(3, 2, 1\.5\) versus \(3\.5, 2, 1\.5\) mm"):
        images.read_image([a, c])


def test_scaled_nifti_values_are_unscaled(tmp_path):
    image = nib.Nifti1Image(np.ones(SHAPE[::-1], np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(images.read_image(tmp_path / "a.nii").array, 10.5)


def test_labels_stored_as_floats_are_read_when_whole(tmp_path):
    mask = np.zeros(SHAPE, np.float64)
    mask[1] = 2
    write_scan(tmp_path / "whole.nii.gz", np.eye(4), mask)
    read = images.read_label(tmp_path / "whole.nii.gz").array
    assert read.dtype.kind == "i"
    np.testing.assert_array_equal(read, mask)
    for bad in (0.5, np.nan, np.inf, 1e12):
        write_scan(tmp_path / "bad.nii.gz", np.eye(4), mask + bad)
        with pytest.raises(UserError, match=r"bad\.nii\.gz is not a mask"):
            images.read_label(tmp_path / "bad.nii.gz")


def test_a_colour_mask_is_refused(tmp_path):
    Pillow.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="3 channels"):
        images.read_label(tmp_path / "a.png")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(tmp_path, bad):
    array = np.zeros(SHAPE, np.float32)
    array[1, 2, 3] = bad
    write_scan(tmp_path / "a.nii.gz", np.eye(4), array)
    with pytest.raises(UserError, match=r"a\.nii\.gz contains 1 voxel"):
        images.read_image(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("end", [".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".tif"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.95])
def test_truncated_files_are_named(tmp_path, end, keep):
    noise = np.random.default_rng(5).integers(0, 255, (9, 60, 60)).astype(np.uint8)
    path = tmp_path / f"cut{end}"
    if end == ".png":
        Pillow.fromarray(noise[0]).save(path)
    elif end == ".tif":
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(path))  # pages: libtiff drops missing ones silently
    else:
        write_scan(path, np.eye(4), noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    for read in (images.read_image, images.read_label):
        with pytest.raises(UserError, match=f"cut{end}"):
            read(path)


def test_missing_unknown_and_misnamed_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.nii\.gz does not exist"):
        images.read_image(tmp_path / "gone.nii.gz")
    (tmp_path / "a.webp").write_bytes(b"x")
    with pytest.raises(UserError, match=r"a\.webp has an unsupported format"):
        images.read_grid(tmp_path / "a.webp")
    write_scan(tmp_path / "real.mha", np.eye(4))
    (tmp_path / "fake.png").write_bytes((tmp_path / "real.mha").read_bytes())
    # ITK recognises a TIFF by its content, unless its reader is named.
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 6), np.uint8)), str(tmp_path / "real.tif"))
    (tmp_path / "other.png").write_bytes((tmp_path / "real.tif").read_bytes())
    for name in ("fake", "other"):
        with pytest.raises(UserError, match=rf"{name}\.png cannot be read"):
            images.read_image(tmp_path / f"{name}.png")


@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
def test_a_header_that_claims_the_impossible_is_refused_before_allocation(tmp_path, end):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<4h", raw, 40, 3, 32767, 32767, 32767)
    path = tmp_path / f"huge{end}"
    path.write_bytes(gzip.compress(raw) if end == ".nii.gz" else raw)
    with pytest.raises(UserError, match=r"huge.*declares 35,181,150,961,663 bytes"):
        images.read_image(path)


def test_headers_that_point_to_other_files_are_refused(tmp_path):
    (tmp_path / "secret.raw").write_bytes(bytes(120))
    (tmp_path / "a.mha").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_UCHAR\nElementDataFile = secret.raw\n"
    )
    (tmp_path / "a.nrrd").write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 6 5 4\nencoding: raw\ndata file: secret.raw\n\n"
    )
    for end in (".mha", ".nrrd"):
        with pytest.raises(UserError, match="another file"):
            images.read_image(tmp_path / f"a{end}")
    huge = "ObjectType = Image\nNDims = 3\nDimSize = 9999 9999 9999\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "b.mha").write_text(huge)
    with pytest.raises(UserError, match="declares"):
        images.read_image(tmp_path / "b.mha")


MHA = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 6 5 4\nencoding: raw\n"


# ITK has its own idea of where a line, a key and a value end: half of these once passed the check and read secret.raw.
@pytest.mark.parametrize(
    "header",
    [
        NRRD + "content: a\x0c\x0cb\ndata file: secret.raw\n\n",
        NRRD + "content: a\x85\x85b\ndata file: secret.raw\n\n",
        NRRD + "content: a\r\rb\ndata file: secret.raw\n\n",
        NRRD + "content: a\rdata file: secret.raw\n\n",
        NRRD + "# long\n" * 10_000 + "data file: secret.raw\n\n",
        NRRD + "# long\n" * 200_000 + "data file: secret.raw\n\n",
        NRRD + "DataFile: secret.raw\n\n",
        MHA + "ElementDataFile : secret.raw\n",
        MHA + "ElementDataFile = LOCAL.raw\n",
        MHA + "ElementDataFile = LIST\nsecret.raw\n",
        MHA + "elementdatafile = LOCAL\nElementDataFile = secret.raw\n",
        MHA + "Element DataFile = LOCAL\nElementDataFile = secret.raw\n",
        MHA + "Comment = ElementDataFile = LOCAL\nElementDataFile = secret.raw\n",
        MHA + "Comment = a\x0bElementDataFile = LOCAL\nElementDataFile = secret.raw\n",
        MHA + "Comment = a\x85ElementDataFile = LOCAL\nElementDataFile = secret.raw\n",
        MHA + "Comment =\nElementDataFile = LOCAL\nElementDataFile = secret.raw\n",
        MHA + "Comment = twice\nElementDataFile = LOCAL\nElementDataFile = secret.raw\n",
        MHA + "Comment = long\n" * 10_000 + "ElementDataFile = secret.raw\n",
        MHA + "Comment = long\n" * 100_000 + "ElementDataFile = secret.raw\n",
    ],
)
def test_no_spelling_of_a_header_reads_another_file(tmp_path, monkeypatch, header):
    monkeypatch.chdir(tmp_path)  # so that the other file would be found either way
    (tmp_path / "secret.raw").write_bytes(bytes(120))
    path = tmp_path / ("a.nrrd" if header.startswith("NRRD") else "a.mha")
    path.write_bytes(header.encode("latin-1") + b"\1" * 120)
    with pytest.raises(UserError, match=r"another file|is incomplete"):
        images.read_image(path)


@pytest.mark.parametrize(
    "header",
    [
        NRRD + "\n",
        NRRD.replace("\n", "\r\n") + "\r\n",
        NRRD + "# the data file: none\nkey:=data file: none\n\n",
        NRRD + "# long\n" * 10_000 + "\n",
        MHA + "ElementDataFile = LOCAL\n",
        MHA + "ElementDataFile=local \n",
        MHA.replace("\n", "\r\n") + "ElementDataFile: LOCAL\r\n",
        MHA + "Comment = long\n" * 10_000 + "ElementDataFile = LOCAL\n",
    ],
)
def test_voxels_after_any_valid_header_are_read(tmp_path, header):
    path = tmp_path / ("a.nrrd" if header.startswith("NRRD") else "a.mha")
    path.write_bytes(header.encode() + bytes(range(120)))
    np.testing.assert_array_equal(images.read_image(path).array.reshape(-1), np.arange(120))


@pytest.mark.parametrize("value", [0.0, np.nan, 1e30])
def test_impossible_geometry_is_refused(tmp_path, value):
    write_scan(tmp_path / "a.nii", np.eye(4))
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<4f", raw, 296, 0, value, 0, 0)  # srow_y
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(UserError, match="impossible geometry"):
        images.read_grid(tmp_path / "a.nii")


def test_real_scans_are_read(shared_data):
    root = shared_data("Task04_Hippocampus")
    image = images.read_image(root / "imagesTr" / "hippocampus_001.nii.gz")
    label = images.read_label(root / "labelsTr" / "hippocampus_001.nii.gz")
    assert image.grid.shape == (35, 51, 35)
    assert grid_difference(image.grid, label.grid) == ""
    assert sorted(np.unique(label.array)) == [0, 1, 2]
