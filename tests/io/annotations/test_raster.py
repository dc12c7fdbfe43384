"""Masks drawn from shapes: the rule of pixel centres, against other programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pycocotools import mask as coco_masks

from segment.io.annotations import Shape
from segment.io.annotations.raster import draw, runs_of
from segment.io.annotations.shapes import corners

SIZE = (20, 30)
ROWS, COLUMNS = np.mgrid[:20, :30] + 0.5  # centres
across, down = (  # never on a centre
    st.integers(-50, 350).map(lambda tenth, beside=beside: tenth / 10 + beside) for beside in (0.0317, 0.0171)
)


def drawn(*shapes, **options):
    return draw(shapes, SIZE, {"a": 1, "b": 2}, **options)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(across, down), min_size=3, max_size=8))
def test_a_pixel_belongs_to_a_polygon_if_its_centre_lies_inside(points):
    points = np.array(points)
    crossings = np.zeros(SIZE, int)  # an independent count of the edges to the right of each centre
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if y0 != y1:
            crossings += ((y0 > ROWS) != (y1 > ROWS)) & (x0 + (ROWS - y0) / (y1 - y0) * (x1 - x0) > COLUMNS)
    np.testing.assert_array_equal(drawn(Shape("a", "polygon", (points,))), crossings % 2)


def test_polygons_equal_matplotlibs_and_pycocotools_but_for_its_rounding_at_the_outline():
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        points = np.stack([15 + rng.uniform(4, 13, 9) * np.cos(angles), 10 + rng.uniform(3, 9, 9) * np.sin(angles)], 1)
        ours = drawn(Shape("a", "polygon", (points,)))
        outline = Outline([*points, points[0]], closed=True)
        centres = np.stack([COLUMNS.ravel(), ROWS.ravel()], 1)
        np.testing.assert_array_equal(ours, outline.contains_points(centres).reshape(SIZE))
        theirs = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects([points.ravel().tolist()], *SIZE)))
        differing = centres[(ours != theirs).ravel()]
        ends = np.roll(points, -1, 0) - points
        for centre in differing:  # within half a pixel's diagonal of an edge
            along = np.clip(((centre - points) * ends).sum(1) / (ends**2).sum(1), 0, 1)
            assert np.linalg.norm(points + along[:, None] * ends - centre, axis=1).min() < 0.71


@settings(max_examples=40, deadline=None)
@given(across, down, across, down)
def test_a_box_is_its_polygon(x0, y0, x1, y1):
    box = drawn(Shape("a", "box", corners(x0, y0, x1, y1)))
    outline = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    np.testing.assert_array_equal(box, drawn(Shape("a", "polygon", (outline,))))


def test_a_box_of_whole_pixels_is_pycocotools():
    whole = drawn(Shape("a", "box", corners(5, 3, 12, 7)))
    theirs = coco_masks.frPyObjects(np.array([[5.0, 3, 7, 4]]), *SIZE)  # x, y, width, height
    np.testing.assert_array_equal(whole, coco_masks.decode(theirs)[..., 0])
    assert whole.sum() == 28


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, -75.0])
def test_ellipses_are_turned_clockwise(angle):
    ours = drawn(Shape("a", "ellipse", corners(6.3, 7.1, 24.2, 13.4), angle))
    x, y, turn = COLUMNS - 15.25, ROWS - 10.25, np.deg2rad(angle)
    along, across = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    np.testing.assert_array_equal(ours, (along / 8.95) ** 2 + (across / 3.15) ** 2 < 1)
    assert ours.any()


def test_later_shapes_are_drawn_over_earlier_ones_and_boxes_as_asked():
    first, second = Shape("a", "box", corners(2, 2, 12, 12)), Shape("b", "box", corners(8, 8, 18, 18))
    assert drawn(first, second)[9, 9] == 2
    assert drawn(second, first)[9, 9] == 1
    ellipses = drawn(first, second, boxes="ellipse")
    assert (ellipses == 2).sum() == pytest.approx(np.pi * 25, abs=4)
    assert ellipses[17, 17] == ellipses[2, 2] == 0
    assert drawn(Shape("other", "box", corners(0, 0, 9, 9))).max() == 0
    assert draw([first], SIZE, {"a": 700}, background=255).dtype == np.uint16


def test_a_hole_is_not_cut_but_parts_are_united():
    outer, inner = (np.array([[a, a], [b, a], [b, b], [a, b]], float) for a, b in ((2, 12), (4, 6)))
    assert drawn(Shape("a", "polygon", (outer, inner))).sum() == 100


@pytest.mark.parametrize(("left", "top"), [(3, 2), (-2, -3), (25, 16)])
def test_masks_of_runs_are_pasted_where_they_lie(left, top):
    bits = np.random.default_rng(1).random((7, 9)) < 0.5
    wanted = np.zeros((40, 60), np.uint8)
    wanted[10 + top : 17 + top, 10 + left : 19 + left] = bits
    rectangle = corners(left, top, left + 9, top + 7)
    np.testing.assert_array_equal(drawn(Shape("a", "mask", rectangle, runs=runs_of(bits))), wanted[10:30, 10:40])


@pytest.mark.parametrize(
    ("rectangle", "runs"),
    [
        (corners(0, 0, 9, 7), [60]),
        (corners(0, 0, 9, 7), [70, -7]),
        (corners(0, 0, 9, 7), [2**62, 2**62, 2**62, 2**62, 63]),
        (corners(0, 0, 1e6, 1e6), [10**12]),
    ],
)
def test_runs_that_do_not_fit_are_refused(rectangle, runs):
    with pytest.raises(ValueError, match=r"do not fill|larger than its image"):
        drawn(Shape("a", "mask", rectangle, runs=np.array(runs, np.int64)))
