"""PNG: numbers as stored, palettes, transparency, checksums."""

import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from segment.errors import UserError
from segment.io.images import count_channels, read_image, read_label, write_label

PIXELS = np.random.default_rng(0).integers(0, 65536, (14, 19, 4))  # y, x, sample
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128]
INDICES = (PIXELS[..., 0] % 8).astype(np.uint8)


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_png(path, array, bits, kind, *more):
    """A PNG of any depth, whose lines are unfiltered; array (y, x, sample), or (y, x)."""
    if bits == 16:
        lines = array.astype(">u2").reshape(len(array), -1).view(np.uint8)
    else:
        stored = array.reshape(len(array), -1)
        lines = np.unpackbits(stored.astype(np.uint8)[..., None], axis=-1)[..., -bits:].reshape(len(array), -1)
        lines = np.packbits(lines, axis=1)
    body = b"".join(b"\0" + line.tobytes() for line in lines)
    head = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_numbers_of_any_depth_are_read_as_stored(tmp_path, bits):
    values = PIXELS[..., 0] % (1 << bits)
    write_png(tmp_path / "a.png", values, bits, 0)
    for more in ((), (chunk(b"tRNS", b"\0\0"),)):
        write_png(tmp_path / "a.png", values, bits, 0, *more)
        np.testing.assert_array_equal(read_label(tmp_path / "a.png").array, values)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, values[None])


def test_a_large_mask_of_one_bit_is_whole(tmp_path):
    mask = np.zeros((2048, 2048), bool)
    mask[500:900, 300:1200] = True
    Image.fromarray(mask).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array, mask)


@pytest.mark.parametrize(("kind", "samples", "channels"), [(2, 3, 3), (4, 2, 1), (6, 4, 3)])
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_keep_their_bits_and_lose_alpha(tmp_path, kind, samples, channels, bits):
    values = PIXELS[..., :samples] % (1 << bits)
    write_png(tmp_path / "a.png", values, bits, kind)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, np.moveaxis(values, -1, 0)[:channels])
    assert count_channels(tmp_path / "a.png") == channels


@pytest.mark.parametrize("bits", [4, 8])
def test_a_palette_in_colours_gives_indices_for_a_mask_and_colours_for_an_image(tmp_path, bits):
    write_png(tmp_path / "a.png", INDICES, bits, 3, chunk(b"PLTE", bytes(VOC)), chunk(b"tRNS", b"\0"))
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array, INDICES)
    colours = np.reshape(VOC, (-1, 3))[INDICES]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, np.moveaxis(colours, -1, 0))
    assert count_channels(tmp_path / "a.png") == 3


@pytest.mark.parametrize(
    ("greys", "labels"),
    [([0, 38, 75], [0, 38, 75]), ([0, 38, 75, 0, 0, 0], [0, 38, 75]), ([0, 0, 0], [0, 1, 2]), ([9, 0, 9], [0, 1, 2])],
)
def test_a_palette_of_different_greys_is_these_greys(tmp_path, greys, labels):
    indices = INDICES % 3
    write_png(tmp_path / "a.png", indices, 8, 3, chunk(b"PLTE", bytes(np.repeat(greys, 3).astype(np.uint8))))
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array, np.array(labels)[indices])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, np.array(greys)[indices][None])


@pytest.mark.parametrize("most", [1, 255, 65535])
def test_written_masks_are_read_by_another_program(tmp_path, most):
    mask = PIXELS[..., 0].astype(int) % (most + 1)
    Image.fromarray(INDICES).save(tmp_path / "scan.png")
    write_label(tmp_path / "a.png", mask, tmp_path / "scan.png")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png"))), mask)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").array, mask)


def test_no_damaged_byte_gives_another_mask(tmp_path):
    Image.fromarray(INDICES).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "a.png").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"a\.png"):
            read_label(tmp_path / "a.png")


def test_a_film_is_refused(tmp_path):
    frames = [Image.fromarray(INDICES), Image.fromarray(INDICES[::-1].copy())]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="film of several images"):
        read_image(tmp_path / "a.png")
