"""JPEG and BMP."""

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageOps

from segment.errors import UserError
from segment.inference.inputs import find_scans
from segment.io.images import count_channels, read_image, read_label, write_label

COLOURS = np.random.default_rng(0).integers(0, 256, (14, 19, 3)).astype(np.uint8)
GREY = COLOURS[..., 0]


@pytest.mark.parametrize("end", [".jpg", ".jpeg", ".JPG", ".bmp"])
@pytest.mark.parametrize("pixels", [GREY, COLOURS], ids=["grey", "colours"])
def test_photographs_are_read_as_by_itk(tmp_path, end, pixels):
    path = tmp_path / f"a{end}"
    Image.fromarray(pixels).save(path, **({} if end == ".bmp" else {"progressive": end == ".jpg", "subsampling": 0}))
    image = read_image(path)
    there = np.atleast_3d(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
    there = there[..., : len(image.array)]  # ITK reads greys of a BMP as colours
    np.testing.assert_allclose(np.moveaxis(image.array, 0, -1), there, atol=0 if end == ".bmp" else 1)
    assert count_channels(path) == len(image.array) == (3 if pixels.ndim == 3 else 1)
    assert image.grid.assumed


@pytest.mark.parametrize("corner", range(1, 9))
def test_a_photograph_is_upright_as_its_exif_data_say(tmp_path, corner):
    exif = Image.Exif()
    exif[0x0112] = corner
    pixels = np.kron(COLOURS[:2, :3], np.ones((8, 8, 1))).astype(np.uint8)  # which JPEG keeps
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg")))
    image = read_image(tmp_path / "a.jpg")
    np.testing.assert_array_equal(np.moveaxis(image.array, 0, -1), upright)
    assert image.grid.shape == upright.shape[:2] == ((16, 24) if corner < 5 else (24, 16))


def test_a_jpeg_is_no_mask_and_its_masks_are_png(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "eye_1.jpg")
    with pytest.raises(UserError, match=r"eye_1\.jpg cannot be a mask: it is a JPEG.*\.png"):
        read_label(tmp_path / "eye_1.jpg")
    with pytest.raises(UserError, match=r"\.jpg cannot store this mask.*write \.png"):
        write_label(tmp_path / "a.jpg", GREY, tmp_path / "eye_1.jpg")
    (name, files), *_ = find_scans(tmp_path, channels=1)
    assert (name, files) == ("eye_1.png", [tmp_path / "eye_1.jpg"])
    write_label(tmp_path / name, GREY % 3, tmp_path / "eye_1.jpg")
    np.testing.assert_array_equal(read_label(tmp_path / name).array, GREY % 3)


def test_masks_are_written_as_bmp(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "scan.bmp")
    write_label(tmp_path / "a.bmp", GREY, tmp_path / "scan.bmp")
    np.testing.assert_array_equal(read_label(tmp_path / "a.bmp").array, GREY)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.bmp")))[..., 0], GREY)


@pytest.mark.parametrize(
    ("colours", "labels", "channels"),
    [([0, 0, 0, 128, 0, 0, 0, 128, 0], [0, 1, 2], 3), ([0, 0, 0, 9, 9, 9, 5, 5, 5], [0, 9, 5], 1)],
)
def test_a_palette_is_read_by_the_common_rule(tmp_path, colours, labels, channels):
    image = Image.fromarray(GREY % 3, "P")
    image.putpalette(colours)
    image.save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_label(tmp_path / "a.bmp").array, np.array(labels)[GREY % 3])
    seen = np.reshape(colours, (3, 3))[GREY % 3]
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp").array, np.moveaxis(seen, -1, 0)[:channels])


@pytest.mark.parametrize("shape", [(7, 9), (2048, 2048)])
def test_a_bmp_of_one_bit_is_black_and_white(tmp_path, shape):
    mask = np.zeros(shape, bool)
    mask[1:3, 2:7] = True
    Image.fromarray(mask).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_label(tmp_path / "a.bmp").array, mask * 255)


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("a.jpg", lambda path: Image.fromarray(np.dstack([COLOURS, GREY]), "CMYK").save(path), "colours CMYK"),
        ("a.jpg", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0"), r"a\.jpg cannot be read"),
        ("a.bmp", lambda path: path.write_bytes(b"BM"), r"a\.bmp cannot be read"),
        ("a.bmp", lambda path: path.write_bytes(bmp_of(1 << 20, 1 << 20, bits=24)), "cannot contain"),
        ("a.bmp", lambda path: path.write_bytes(bmp_of(1 << 12, 1 << 19, bits=8)), "cannot contain"),
    ],
)
def test_other_content_is_refused(tmp_path, name, write, said):
    write(tmp_path / name)
    with pytest.raises(UserError, match=said):
        read_image(tmp_path / name)


def bmp_of(width, height, bits):
    """A header and a palette without pixels."""
    head = (54 + 1024).to_bytes(4, "little") + (40).to_bytes(4, "little")
    size = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return b"BM" + bytes(8) + head + size + b"\1\0" + bits.to_bytes(2, "little") + bytes(24) + bytes(range(256)) * 4


def test_a_truncated_photograph_is_refused(tmp_path):
    for end in (".jpg", ".bmp"):
        path = tmp_path / f"a{end}"
        Image.fromarray(np.tile(COLOURS, (9, 9, 1))).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match="truncated"):
            read_image(path)
