"""TIFF: what other programs write, with the values that they wrote."""

import io
import logging

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from segment.errors import UserError
from segment.io.geometry import grid_difference
from segment.io.images import count_channels, read_grid, read_image, read_label, write_label

logging.getLogger("tifffile").setLevel(logging.CRITICAL)
STACK = np.random.default_rng(0).integers(0, 65536, (2, 3, 20, 30)).astype(np.uint16)  # channel, z, y, x
FLAT = STACK[0, 0]
COLOUR = STACK[0]  # channel, y, x
BYTES = (FLAT >> 8).astype(np.uint8)
LAST = {"photometric": "minisblack", "planarconfig": "contig"}
FIRST = {"photometric": "minisblack", "planarconfig": "separate"}
OME = {"axes": "CZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}


def interleaved(count, dtype=np.uint16):
    return np.random.default_rng(count).integers(0, 250, (20, 30, count)).astype(dtype)


SAMPLES = {
    **{f"{n} samples": (interleaved(n), LAST, np.moveaxis(interleaved(n), -1, 0)) for n in (2, 3, 4, 5, 6)},
    **{f"{n} planes": (np.moveaxis(interleaved(n), -1, 0).copy(), FIRST, np.moveaxis(interleaved(n), -1, 0))
       for n in (2, 3, 4, 5, 6)},
    "bytes": (interleaved(5, np.uint8), LAST, np.moveaxis(interleaved(5), -1, 0)),
    "RGB of 16 bits": (np.moveaxis(COLOUR, 0, -1), {"photometric": "rgb"}, COLOUR),
    "RGB in planes": (COLOUR, {"photometric": "rgb", "planarconfig": "separate"}, COLOUR),
    "alpha": (interleaved(4), {"photometric": "rgb", "extrasamples": ["unassalpha"]},
              np.moveaxis(interleaved(4), -1, 0)[:3]),
    "premultiplied": (interleaved(2), LAST | {"extrasamples": ["assocalpha"]}, interleaved(2)[None, ..., 0]),
    "four bands": (interleaved(4), {"photometric": "rgb", "extrasamples": ["unspecified"]},
                   np.moveaxis(interleaved(4), -1, 0)),
    "tiles": (interleaved(5), LAST | {"tile": (16, 16)}, np.moveaxis(interleaved(5), -1, 0)),
    "LZW": (interleaved(3), {"photometric": "rgb", "compression": "lzw", "predictor": True},
            np.moveaxis(interleaved(3), -1, 0)),
    "white is zero": (BYTES, {"photometric": "miniswhite"}, BYTES[None]),
    "pages in colour": (interleaved(9).reshape(3, 20, 30, 3), {"photometric": "rgb"},
                        interleaved(9).reshape(3, 20, 30, 3).transpose(3, 0, 1, 2)),
    "big-endian": (FLAT, {"byteorder": ">"}, FLAT[None]),
    "BigTIFF": (FLAT, {"bigtiff": True}, FLAT[None]),
    "float16": (FLAT.astype(np.float16) / 99, {}, (FLAT.astype(np.float16) / 99)[None]),
    "float64": (FLAT / 7, {}, (FLAT / 7)[None].astype(np.float32)),
    "signed": (FLAT.astype(np.int16), {}, FLAT.astype(np.int16)[None]),
    "pages": (COLOUR, {"photometric": "minisblack", "metadata": None}, COLOUR[None]),
    "pages without a name": (COLOUR, {"photometric": "minisblack"}, COLOUR[None]),
    "ImageJ ZCYX": (STACK.swapaxes(0, 1), {"imagej": True, "metadata": {"axes": "ZCYX"}}, STACK),
    "ImageJ CYX": (COLOUR, {"imagej": True, "metadata": {"axes": "CYX"}}, COLOUR),
    "ImageJ ZYX": (COLOUR, {"imagej": True, "metadata": {"axes": "ZYX"}}, COLOUR[None]),
    "OME CZYX": (STACK, {"ome": True, "metadata": OME}, STACK),
    "OME ZCYX": (STACK.swapaxes(0, 1), {"ome": True, "metadata": {"axes": "ZCYX"}}, STACK),
    "OME CYX": (COLOUR, {"ome": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"}, COLOUR),
}  # fmt: skip


@pytest.mark.parametrize("case", SAMPLES)
def test_channels_slices_and_types_are_read_as_written(tmp_path, case):
    written, options, expected = SAMPLES[case]
    tifffile.imwrite(tmp_path / "a.tif", written, **options)
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array, expected.astype(np.float32))
    assert count_channels(tmp_path / "a.tif") == len(expected)
    assert read_grid(tmp_path / "a.tif").shape == expected.shape[1:]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint64, np.float16, np.float64])
@pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
def test_masks_of_every_type_are_read(tmp_path, dtype, compression):
    mask = (FLAT > 40000).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", mask, compression=compression)
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array, FLAT > 40000)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_lzw", "tiff_deflate", "packbits", "raw"])
def test_bilevel_masks_of_pillow_are_read(tmp_path, compression):
    mask = np.zeros((2048, 2048), bool)
    mask[500:900, 300:1200] = True
    Image.fromarray(mask).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array, mask)


@pytest.mark.parametrize("corner", range(1, 9))
def test_an_image_is_upright_whatever_its_orientation_tag(tmp_path, corner):
    content = io.BytesIO()
    Image.fromarray(BYTES).save(content, "TIFF", tiffinfo={274: corner})
    (tmp_path / "a.tif").write_bytes(content.getvalue())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(content)))
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.array[0], upright)
    assert image.grid.shape == upright.shape


def imagej(unit, **more):
    return {"imagej": True, "resolution": (2.0, 4.0), "metadata": {"axes": "ZYX", "unit": unit, **more}}


@pytest.mark.parametrize(
    ("options", "spacing"),
    [
        (imagej("um", spacing=3.0), (3e-3, 0.25e-3, 0.5e-3)),
        (imagej("\\u00B5m", spacing=3.0), (3e-3, 0.25e-3, 0.5e-3)),
        (imagej("mm"), (1.0, 0.25, 0.5)),
        (imagej("pixel", spacing=3.0), None),
        (imagej("inch", spacing=3.0), None),
        ({"ome": True, "metadata": OME | {"axes": "ZYX"}}, (2e-3, 0.25e-3, 0.5e-3)),
        ({"ome": True, "metadata": OME | {"axes": "ZYX", "PhysicalSizeXUnit": "nm"}}, (2e-3, 0.25e-3, 0.5e-6)),
        ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}}, None),
        ({"resolution": (72, 72), "resolutionunit": "inch", "photometric": "minisblack"}, None),
        ({"resolution": (20000, 20000), "resolutionunit": "centimeter", "photometric": "minisblack"}, None),
    ],
)
def test_only_metadata_of_a_microscope_gives_the_voxel_size(tmp_path, options, spacing):
    tifffile.imwrite(tmp_path / "a.tif", COLOUR, **options)
    grid = read_grid(tmp_path / "a.tif")
    assert grid.assumed == (spacing is None)
    np.testing.assert_allclose(grid.spacing, spacing or (1.0, 1.0, 1.0), rtol=1e-6)


@pytest.mark.parametrize("unit", ["um", "pixel"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_mask_is_written_on_the_grid_of_its_micrograph(tmp_path, unit, flat):
    scan, axes = (FLAT, "YX") if flat else (COLOUR, "ZYX")
    tifffile.imwrite(tmp_path / "a.tif", scan, **imagej(unit, axes=axes, spacing=3.0))
    write_label(tmp_path / "b.tif", scan % 3, tmp_path / "a.tif")
    mask = read_label(tmp_path / "b.tif")
    np.testing.assert_array_equal(mask.array, scan % 3)
    np.testing.assert_allclose(mask.grid.affine, read_grid(tmp_path / "a.tif").affine, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.tif")), (scan % 3).reshape(-1, 20, 30)[0])
    # A mask from a program that stores no pixel size belongs to the micrograph all the same.
    tifffile.imwrite(tmp_path / "c.tif", scan % 3, photometric="minisblack")
    assert grid_difference(read_grid(tmp_path / "a.tif"), read_grid(tmp_path / "c.tif")) == ""


def test_a_palette_is_indices_for_a_mask_and_colours_for_an_image(tmp_path):
    indices = BYTES % 3
    image = Image.fromarray(indices, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array, indices)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.tif").array, np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    )


def elsewhere(path):
    content = io.BytesIO()
    tifffile.imwrite(content, COLOUR, ome=True, metadata={"axes": "ZYX"})
    content.seek(0)
    text = tifffile.TiffFile(content).ome_metadata
    other = '<TiffData IFD="0"><UUID FileName="secret.tif">urn:uuid:0</UUID></TiffData>'
    tifffile.imwrite(path.with_name("secret.tif"), COLOUR)
    tifffile.imwrite(
        path,
        COLOUR,
        photometric="minisblack",
        metadata=None,
        description=text.replace("<TiffData", other + "<TiffData", 1),
    )


def counted(text, replacement):
    def write(path):
        content = io.BytesIO()
        tifffile.imwrite(content, COLOUR, ome=True, metadata={"axes": "ZYX"})
        content.seek(0)
        changed = tifffile.TiffFile(content).ome_metadata.replace(text, replacement)
        assert replacement in changed
        tifffile.imwrite(path, COLOUR, photometric="minisblack", metadata=None, description=changed)

    return write


def two_sizes(path):
    with tifffile.TiffWriter(path) as file:
        file.write(FLAT)
        file.write(FLAT[:7])


def sparse(path):
    tifffile.imwrite(path, FLAT, rowsperstrip=10)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["StripByteCounts"].overwrite([FLAT.nbytes // 2, 0])


def patched(tag, value):
    def write(path):
        tifffile.imwrite(path, FLAT, tile=(16, 16), compression="zlib")
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags[tag].overwrite(value)

    return write


def tall_fax(path):
    Image.fromarray(np.zeros((8, 64), bool)).save(path, compression="group4")
    with tifffile.TiffFile(path, mode="r+") as file:
        for tag in ("ImageLength", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(1 << 14)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "TZYX"}), "2 time points"),
        (lambda path: tifffile.imwrite(path, STACK, photometric="minisblack"), "axes QQYX"),
        (lambda path: tifffile.imwrite(path, COLOUR, photometric="minisblack", metadata={"axes": "LYX"}), "axes LYX"),
        (lambda path: tifffile.imwrite(path, BYTES, compression="zstd"), "compressed by ZSTD"),
        (lambda path: Image.fromarray(interleaved(4, np.uint8), "CMYK").save(path), "colours SEPARATED"),
        (lambda path: tifffile.imwrite(path, FLAT + 1j), "unsupported type complex"),
        (
            lambda path: tifffile.imwrite(path, COLOUR, metadata=None, photometric="minisblack", software="SI.LINE"),
            "is a scanimage file",
        ),
        (elsewhere, "in other files or missing"),
        (counted('SizeZ="3"', 'SizeZ="4"'), "part of its voxels is missing"),
        (counted('SizeZ="3"', 'SizeZ="999999999"'), "more planes than the file"),
        (counted('PlaneCount="3"', 'PlaneCount="99999999999"'), "more planes than the file"),
        (two_sizes, "2 images of different sizes"),
        (sparse, "part of its voxels is missing"),
        (patched("TileWidth", 1 << 20), "tiles larger than the file"),
        (patched("ImageWidth", 1 << 20), "missing|cannot contain"),
        (lambda path: path.write_bytes(b"II*\0\x08\0\0\0"), "truncated or damaged"),
        (lambda path: path.write_bytes(b"GIF89a"), "not a TIFF"),
        (tall_fax, "larger than the file can contain"),
    ],
)
def test_what_has_no_sure_meaning_is_refused_by_name(tmp_path, write, said):
    write(tmp_path / "a.tif")
    with pytest.raises(UserError, match=said):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compression": "jpeg"}, "compressed by JPEG"),
        ({"photometric": "miniswhite", "metadata": None}, "stores white as 0"),
    ],
)
def test_masks_that_cannot_be_trusted_are_refused(tmp_path, options, said):
    mask = BYTES if "compression" in options else BYTES > 9
    tifffile.imwrite(tmp_path / "a.tif", mask, **options)
    assert read_image(tmp_path / "a.tif").array.shape == (1, 20, 30)
    with pytest.raises(UserError, match=f"cannot be a mask: it .*{said}"):
        read_label(tmp_path / "a.tif")


def test_a_damaged_mask_is_not_another_mask(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", BYTES)
    write_label(tmp_path / "a.tif", BYTES % 5, tmp_path / "scan.tif")
    whole = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    for place in range(start, start + count):
        (tmp_path / "a.tif").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            np.testing.assert_array_equal(read_label(tmp_path / "a.tif").array, BYTES % 5)
        except UserError as error:
            assert "a.tif" in str(error)  # noqa: PT017
