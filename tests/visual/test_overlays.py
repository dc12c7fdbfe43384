import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segment.visual.overlays import INVENTED, MISLABELLED, MISSED, errors, lettered
from segment.visual.pictures import contour_row


def test_errors_are_told_apart():
    reference, prediction = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    reference[2:10, 2:18] = 1
    prediction[6:14, 2:18] = 1
    prediction[6:10, 10:18] = 2
    drawn = errors(np.full((20, 20, 3), 100, np.uint8), reference, prediction)
    assert (drawn[3, 5:15] == MISSED).all()
    assert (drawn[12, 2:18] == INVENTED).all()
    assert (drawn[7, 12] == MISLABELLED).all()
    assert (drawn[7, 5] == 60).all()  # right: the darkened image
    assert (drawn[9, 3:9] == 235).all()  # the outline of the reference where it is right


def letter(text: str) -> np.ndarray:
    """A letter alone, cut to its box."""
    whole = Image.new("L", (40, 40))
    ImageDraw.Draw(whole).text((20, 20), text, fill=255, font=ImageFont.load_default(size=15), anchor="mm")
    array = np.asarray(whole) > 127
    return array[np.ix_(array.any(axis=1), array.any(axis=0))]


def test_the_letters_are_those_of_the_radiological_view():
    for axis, expected in enumerate((("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I"))):
        drawn = lettered(np.full((200, 200, 3), 90, np.uint8), axis).max(axis=-1) > 127
        parts = (drawn[80:120, :30], drawn[80:120, 170:], drawn[:25, 85:115], drawn[175:, 85:115])
        for part, name in zip(parts, expected, strict=True):
            found = part[np.ix_(part.any(axis=1), part.any(axis=0))]
            np.testing.assert_array_equal(found, letter(name))


def test_scans_are_compared_on_a_slice_that_shows_the_structure():
    reference = np.zeros((5, 40, 40), np.uint8)
    reference[1, 10:20, 10:20] = 1
    first, second = reference.copy(), reference.copy()
    first[4] = 1  # most of the difference lies outside the structure
    second[1, 10:20, 18:20] = 0
    image = np.stack([np.full((40, 40), 10.0 * z) for z in range(5)])[None]
    image[0, 1, ::2] += 5
    plain, *_, errors_of_second = contour_row(image, reference, [first, second], 2, (1, 1, 1))
    assert (errors_of_second == MISSED).all(axis=-1).any()
    assert plain.std() > 10
