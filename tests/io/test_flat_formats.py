"""GIF, PGM and PPM."""

import numpy as np
import pytest
from PIL import Image

from segment.errors import UserError
from segment.io.images import read_image, read_label, write_label

COLOURS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4
GREY = COLOURS[..., 0]


@pytest.mark.parametrize("end", [".gif", ".pgm"])
def test_grey_images_are_read_as_pillow_wrote_them(tmp_path, end):
    Image.fromarray(GREY).save(tmp_path / f"a{end}")
    image = read_image(tmp_path / f"a{end}")
    np.testing.assert_array_equal(image.array, GREY[np.newaxis])
    assert image.grid.shape == (4, 5)


def test_colours_of_a_ppm_are_channels(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.ppm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm").array, np.moveaxis(COLOURS, -1, 0))


def test_a_mask_with_a_black_and_white_palette_has_these_values(tmp_path):
    # DRIVE's masks: two colours in a palette.
    image = Image.fromarray((GREY > 100).astype(np.uint8))
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "21_manual1.gif")
    np.testing.assert_array_equal(read_label(tmp_path / "21_manual1.gif").array, (GREY > 100) * 255)


def test_numbers_of_a_pgm_are_read_as_stored(tmp_path):
    # Pillow would scale them to 255.
    (tmp_path / "a.pgm").write_bytes(b"P5 # made by hand\n# twice\n3 2\n2\n" + bytes([0, 1, 2, 2, 1, 0]))
    assert read_label(tmp_path / "a.pgm").array.tolist() == [[0, 1, 2], [2, 1, 0]]
    (tmp_path / "b.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([1, 0, 0, 2]))
    assert read_label(tmp_path / "b.pgm").array.tolist() == [[256, 2]]


@pytest.mark.parametrize(("end", "most"), [(".gif", 255), (".pgm", 255), (".ppm", 255), (".pgm", 700)])
def test_masks_are_read_back(tmp_path, end, most):
    mask = np.random.default_rng(0).integers(0, most + 1, (7, 9))
    Image.fromarray(np.zeros((7, 9, 3), np.uint8)).save(tmp_path / "scan.png")
    write_label(tmp_path / f"mask{end}", mask, tmp_path / "scan.png")
    np.testing.assert_array_equal(read_label(tmp_path / f"mask{end}").array, mask)


def test_a_gif_in_colours_holds_colours_as_an_image_and_indices_as_a_mask(tmp_path):
    indices = np.arange(20, dtype=np.uint8).reshape(4, 5) % 3
    image = Image.fromarray(indices)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 128, 255])
    image.save(tmp_path / "a.gif", optimize=False)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255]])[indices]
    np.testing.assert_array_equal(np.moveaxis(read_image(tmp_path / "a.gif").array, 0, -1), colours)
    np.testing.assert_array_equal(read_label(tmp_path / "a.gif").array, indices)


def film(path):
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    frames[0].save(path, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("a.gif", film, "film of several images"),
        ("a.gif", lambda path: path.write_bytes(b"GIF89a" + b"\xff" * 7), "a.gif"),
        ("a.gif", lambda path: path.write_bytes(b"P5 1 1 255\n\0"), "a.gif"),
        ("a.ppm", lambda path: path.write_bytes(b"P3 1 1 255\n1 2 3"), "not a binary PGM or PPM"),
        ("a.ppm", lambda path: path.write_bytes(b"P6 9999 9999 255\n\0\0\0"), "truncated or damaged"),
        ("a.pgm", lambda path: path.write_bytes(b"P5 0 9 255\n"), "declares the shape"),
        ("a.pgm", lambda path: path.write_bytes(b"P5 1 1 0\n\0"), "largest value 0"),
    ],
)
def test_other_content_is_refused(tmp_path, name, make, said):
    make(tmp_path / name)
    with pytest.raises(UserError, match=said):
        read_image(tmp_path / name)


def test_a_mask_that_a_gif_cannot_store_is_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "scan.png")
    with pytest.raises(UserError, match=r"\.gif cannot store this mask"):
        write_label(tmp_path / "a.gif", np.full((4, 5), 300), tmp_path / "scan.png")
