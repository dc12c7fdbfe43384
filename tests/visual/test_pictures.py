import io

import numpy as np
import pytest
from PIL import Image

from segment.visual.pictures import colours, fullest_slices, panel, planes, png, sheet


def panes(picture):
    """Image, reference and prediction of a panel, without captions and gaps."""
    width = (picture.shape[1] - 12) // 3
    return [picture[20:, start : start + width] for start in (0, width + 6, 2 * width + 12)]


def volume(**marks):
    """A mask (z, y, x) with one-voxel-thick boxes: label=(z, y slice, x slice)."""
    mask = np.zeros((5, 32, 24), np.uint8)
    for label, (z, y, x) in marks.items():
        mask[z, y, x] = int(label.removeprefix("l"))
    return mask


def where(pane, colour):
    """Centre (row, column) of the pixels of one colour, as fractions of the picture."""
    rows, columns = np.nonzero((pane == np.array(colour)).all(axis=-1))
    return rows.mean() / pane.shape[0], columns.mean() / pane.shape[1]


def test_anterior_is_up_and_the_patients_left_on_the_right():
    # Canonical axes run posterior to anterior and left to right: high y is anterior, low x is left.
    reference = volume(l1=(2, slice(24, 30), slice(2, 6)), l2=(2, slice(2, 6), slice(16, 22)))
    image = np.random.default_rng(0).random((1, *reference.shape))
    picture = panel(image, reference, np.zeros_like(reference), 3, (1, 1, 1))
    row, column = where(panes(picture)[1], colours(3)[1])
    assert row < 0.3
    assert column > 0.7
    row, column = where(panes(picture)[1], colours(3)[2])
    assert row > 0.7
    assert column < 0.3


def test_2d_images_are_shown_unrotated():
    mask = np.zeros((300, 300), int)
    mask[10:40, 20:60] = 1
    picture = panel(np.random.default_rng(0).random((1, 300, 300)), mask, mask, 2, (1, 1))
    assert picture.shape == (320, 912, 3)
    for pane in panes(picture)[1:]:
        row, column = where(pane, colours(2)[1])
        assert row == pytest.approx(25 / 300, abs=0.02)
        assert column == pytest.approx(40 / 300, abs=0.02)


@pytest.mark.parametrize(
    ("reference", "prediction", "shown"),
    [
        (
            volume(l1=(1, slice(0, 9), slice(0, 9)), l2=(3, slice(0, 5), slice(0, 5))),
            volume(l1=(4, slice(9), slice(9))),
            1,
        ),
        (volume(), volume(l1=(4, slice(0, 9), slice(0, 9))), 4),
        (volume(), volume(), 2),
    ],
)
def test_the_fullest_slice_of_the_reference_else_of_the_prediction_is_shown(reference, prediction, shown):
    image = np.zeros((1, 5, 32, 24))
    image[0, shown, :16] = 1  # the only slice with contrast: posterior half bright, so the lower half of the picture
    first = panes(panel(image, reference, prediction, 3, (1, 1, 1)))[0]
    assert first[:100].max() == 0
    assert first[-100:].min() == 255


@pytest.mark.parametrize(
    ("shape", "spacing", "size"),
    [
        ((32, 24), (1, 1), (256, 192)),  # enlarged
        ((32, 24), (1, 2), (256, 384)),  # aspect from the spacing
        ((32, 24), (2, 1), (256, 96)),
        ((2000, 1000), (1, 1), (640, 320)),  # reduced
        ((400, 400), (1, 1), (400, 400)),
        ((10, 400), (1, 1), (256, 1920)),  # too wide to enlarge that much: padded with black
        ((20, 20), (1e-6, 1e6), (256, 1920)),  # damaged header
    ],
)
def test_size_and_aspect(shape, spacing, size):
    mask = np.zeros(shape, np.uint8)
    picture = panel(np.random.default_rng(0).random((1, *shape)), mask, mask, 2, spacing)
    assert picture.dtype == np.uint8
    assert picture.shape == (size[0] + 20, 3 * size[1] + 12, 3)


def test_labels_are_translucent_with_an_opaque_outline_and_only_where_they_are():
    mask = np.zeros((256, 256), np.uint8)
    mask[100:150, 100:150] = 1
    image = np.random.default_rng(0).normal(size=(1, 256, 256))
    base, reference, prediction = panes(panel(image, mask, 0 * mask, 2, (1, 1)))
    np.testing.assert_array_equal(base, prediction)
    outside = np.ones((256, 256), bool)
    outside[100:150, 100:150] = False
    np.testing.assert_array_equal(reference[outside], base[outside])
    np.testing.assert_array_equal(reference[100, 100:150], np.tile(colours(2)[1], (50, 1)))
    inner = reference[110:140, 110:140].astype(float)
    expected = 0.65 * base[110:140, 110:140] + 0.35 * colours(2)[1]
    np.testing.assert_allclose(inner, expected, atol=0.51)


def test_label_at_the_border_has_no_outline_from_the_other_side():
    mask = np.zeros((256, 256), np.uint8)
    mask[:20] = 1
    reference = panes(panel(np.zeros((1, 256, 256)), mask, mask, 2, (1, 1)))[1]
    assert (reference[0] == reference[5]).all()
    assert (reference[19] == colours(2)[1]).all()


def test_outliers_do_not_set_the_grey_window_and_constant_images_are_black():
    image = np.random.default_rng(0).uniform(0, 1, (1, 256, 256))
    image[0, 0, 0] = 1e6
    mask = np.zeros((256, 256), np.uint8)
    assert 100 < panes(panel(image, mask, mask, 2, (1, 1)))[0].mean() < 155
    assert panes(panel(0 * image + 7, mask, mask, 2, (1, 1)))[0].max() == 0
    spot = np.zeros((1, 256, 256))
    spot[0, 100:104, 100:104] = 5  # less than half a percent of the pixels
    assert panes(panel(spot, mask, mask, 2, (1, 1)))[0].max() == 255


def test_first_channel_is_shown_but_flat_colour_images_in_colour():
    mask = np.zeros((256, 256), np.uint8)
    image = np.random.default_rng(0).uniform(0, 1, (3, 256, 256))
    image[0] += 5
    colour = panes(panel(image, mask, mask, 2, (1, 1)))[0]
    assert colour[..., 0].mean() > 2 * colour[..., 1].mean()
    grey = panes(panel(image[:2], mask, mask, 2, (1, 1)))[0]
    np.testing.assert_array_equal(grey, panes(panel(image[:1], mask, mask, 2, (1, 1)))[0])
    assert (grey[..., 0] == grey[..., 2]).all()


def test_colours_are_distinct_and_repeat():
    palette = colours(20)
    assert len(np.unique(palette[:8], axis=0)) == 8
    np.testing.assert_array_equal(palette[8], palette[1])


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="masks"):
        panel(np.zeros((1, 4, 5)), np.zeros((4, 5), int), np.zeros((5, 4), int), 2, (1, 1))


def test_png_contains_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)


def test_a_sheet_has_a_row_of_slices_in_one_window_with_outlines_and_words_beneath():
    grey = np.random.default_rng(0).uniform(0, 1, (1, 64, 64))
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40], mask[50:60, 50:60] = 1, 255
    rows = [[(grey, mask), (grey / 2, mask)], [(grey, 0 * mask), (grey, 0 * mask)]]
    picture = sheet(rows, [[["a"], ["b", "c", "d"]], [["e"], ["f"]]], (1, 1))
    assert picture.dtype == np.uint8
    side = 224
    assert picture.shape[1] == 2 * side + 6
    lines = picture.shape[0] - 2 * side - 2 * 12
    assert lines == 16 * (3 + 1)  # each row has room for its longest words
    first, second = picture[:side, :side], picture[:side, side + 6 :]
    assert (second.mean() / first.mean()) == pytest.approx(0.5, abs=0.06)  # the window is the first slice's
    assert (first == colours(2)[1]).all(axis=-1).sum() > 200
    assert (first == 255).all(axis=-1).sum() > 100  # unannotated voxels are outlined in white
    inside = slice(80, 130)
    np.testing.assert_array_equal(first[inside, inside], picture[-side - 28 : -28, :side][inside, inside])
    words = picture[side : side + 60, side + 6 :]
    assert words.max() == 255
    assert picture[side + 20 : side + 60, : side + 6].max() == 0  # one line only under the first


def test_a_sheet_keeps_the_aspect():
    mask = np.zeros((30, 60), np.uint8)
    picture = sheet([[(np.random.default_rng(0).random((1, 30, 60)), mask)]], [[["a"]]], (2, 1))
    assert picture.shape[1] == 224
    assert picture.shape[0] == 224 + 16 + 12


def test_three_planes_are_radiological():
    """Where a mark left, anterior and superior in the patient comes to lie in each plane."""
    reference = np.zeros((20, 30, 40), np.uint8)  # z, y, x
    reference[10, 15, 20] = 1  # middle of every plane
    mark = np.zeros_like(reference)
    mark[14:18, 24:28, 2:10] = 2  # superior, anterior, left
    reference[mark > 0] = 2
    image = np.random.default_rng(0).random((1, *reference.shape))
    drawn = planes(image, reference, reference, 3, (1, 1, 1))["reference"]
    # A pixel a voxel is 300 / 40; the planes are 30, 20 and 20 voxels high with a gap of 6 pixels between them.
    assert drawn.shape == (225 + 6 + 150 + 6 + 150, 300, 3)
    axial, coronal, sagittal = drawn[:225], drawn[231:381], drawn[387:]
    for plane, (up, right) in ((axial, (True, True)), (coronal, (True, True)), (sagittal, (True, False))):
        row, column = where(plane, colours(3)[2])
        assert (row < 0.4) == up
        assert (column > 0.6) == right


def test_contours_are_a_line_where_masks_agree_and_dashes_where_the_prediction_differs():
    reference, prediction = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    reference[20:50, 20:80] = prediction[20:80, 20:80] = 1
    drawn = planes(np.random.default_rng(0).random((1, 100, 100)), reference, prediction, 2, (1, 1))
    assert drawn["contours"].shape == (300, 300, 3)
    line = (drawn["contours"] == colours(2)[1]).all(axis=-1)
    assert line[60, 70:230].all()  # top, common to both
    assert line[149, 70:230].all()  # bottom of the reference, inside the prediction
    assert 0.3 < line[239, 70:230].mean() < 0.7  # bottom of the prediction
    np.testing.assert_array_equal(drawn["contours"][200, 100:200], drawn["image"][200, 100:200])


def test_planes_keep_the_aspect_and_survive_damaged_spacings():
    mask = np.zeros((4, 8, 16), np.uint8)
    image = np.zeros((1, *mask.shape))
    assert planes(image, mask, mask, 2, (4, 1, 1))["image"].shape == (150 + 300 + 300 + 12, 300, 3)
    assert planes(image, mask, mask, 2, (1e-9, 1, 1e9))["image"].shape == (1 + 1 + 1 + 12, 300, 3)
    with pytest.raises(ValueError, match="masks"):
        planes(image, mask, mask[:2], 2, (1, 1, 1))


def test_each_axis_shows_where_the_reference_is_largest():
    mask = np.zeros((5, 6, 7), np.uint8)
    mask[1, 2:5, 3] = mask[1:4, 4, 3] = 1
    assert fullest_slices(mask, 0 * mask) == (1, 4, 3)
    assert fullest_slices(0 * mask, mask) == (1, 4, 3)
    assert fullest_slices(0 * mask, 0 * mask) == (2, 3, 3)
