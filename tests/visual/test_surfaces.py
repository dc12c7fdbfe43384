import numpy as np
import pytest

from segment.visual.pictures import colours
from segment.visual.surfaces import side_by_side

SPACING = (3.0, 1.0, 0.5)


def ball(shape=(20, 60, 120), centre=(30, 30, 30), radius=15.0, spacing=SPACING) -> np.ndarray:
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    return sum((axis * mm - at) ** 2 for axis, mm, at in zip(axes, spacing, centre, strict=True)) < radius**2


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Of a closed surface, positive when its faces run anticlockwise seen from outside."""
    a, b, c = (vertices[faces[:, corner]].astype(float) for corner in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def of_colour(surfaces, colour) -> tuple[np.ndarray, np.ndarray]:
    chosen = (surfaces.colours == colour).all(axis=1)
    return surfaces.vertices[chosen], surfaces.faces[chosen[surfaces.faces[:, 0]]]


@pytest.mark.parametrize("most", [60_000, 4_000])
def test_ball_has_its_size_and_position_in_mm_with_few_vertices(most):
    reference = ball().astype(np.uint8)
    surfaces = side_by_side(reference, np.zeros_like(reference), 2, SPACING, most)
    assert len(surfaces.vertices) <= most
    vertices, _ = of_colour(surfaces, colours(2)[1])
    faces = surfaces.faces[(surfaces.faces < len(vertices)).all(axis=1)]  # the first half comes first
    assert volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * 15**3, rel=0.08)
    # To the left, up and to the front, where the array runs up, to the front and to the right.
    np.testing.assert_allclose(vertices.mean(axis=0), [-30, 30, 30], atol=1)


def test_the_prediction_stands_to_the_right_of_the_reference_in_the_same_colours():
    reference = ball().astype(np.uint8)
    reference[:, :, 60:] *= 2
    surfaces = side_by_side(reference, reference, 3, SPACING)
    width = 30 * 1.15
    for label in (1, 2):
        vertices, _ = of_colour(surfaces, colours(3)[label])
        left, right = np.split(vertices, 2)
        np.testing.assert_allclose(right - left, np.broadcast_to([width, 0, 0], left.shape), atol=width / 20)
    captions = (surfaces.colours == 110).all(axis=1)
    assert volume(surfaces.vertices, surfaces.faces[captions[surfaces.faces[:, 0]]]) > 0


def test_structures_of_few_voxels_are_drawn_however_coarse_the_blocks():
    mask = np.zeros((8, 90, 90), np.uint8)
    mask[2:6, ::3, ::3] = 1
    mask[4, 41, 41] = 2
    surfaces = side_by_side(mask, mask, 3, (1.0, 1.0, 1.0), most=4_000)
    assert len(surfaces.vertices) <= 4_000
    assert len(of_colour(surfaces, colours(3)[2])[0]) >= 12


def test_empty_masks_and_values_beyond_the_labels_make_no_surface():
    mask = np.zeros((4, 5, 6), np.uint8)
    assert side_by_side(mask, mask, 3, SPACING) is None
    assert side_by_side(mask, mask + 3, 3, SPACING) is None


def test_absurd_spacing_allocates_little_memory():
    mask = np.ones((4, 5, 6), np.uint8)
    assert len(side_by_side(mask, mask, 2, (1e-6, 1e6, 1.0)).vertices) < 5_000
