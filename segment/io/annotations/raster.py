"""Masks drawn from shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from segment.arrays import smallest_type
from segment.io.annotations.shapes import Shape

BOXES = ("box", "ellipse")
"""What a box is drawn as: itself, or the ellipse that touches its sides, as most cells fill it."""


def draw(
    shapes: Iterable[Shape],
    size: tuple[int, int],
    values: Mapping[str, int],
    boxes: Literal["box", "ellipse"] = "box",
    background: int = 0,
) -> np.ndarray:
    """Draw shapes in their order, later ones over earlier ones.

    Args:
        shapes: Shapes in pixels; parts outside the image are cut off.
        size: Height and width of the image.
        values: Label to value in the mask; shapes of other labels are not drawn.
        boxes: What a box is drawn as, one of `BOXES`.
        background: Value where no shape is.

    Returns:
        (y, x) of the smallest type that can hold the values.

    Raises:
        ValueError: If the runs of a mask do not fill its rectangle, or it is larger than the image.
    """
    drawn = np.full(size, background, smallest_type(np.array([background, *values.values()])))
    for shape in shapes:
        if shape.label in values:
            _paint(drawn, shape, values[shape.label], boxes)
    return drawn


def _paint(drawn: np.ndarray, shape: Shape, value: int, boxes: str) -> None:
    # scikit-image's pixels have their centres at whole numbers.
    import skimage.draw

    kind = boxes if shape.kind == "box" else shape.kind
    _, left, top, right, bottom = shape.box
    if kind == "mask":
        _paste(drawn, shape, value)
    elif kind == "box":
        rows, columns = (slice(*_inside(*ends)) for ends in ((top, bottom), (left, right)))
        drawn[rows, columns] = value
    elif kind == "ellipse":
        centre, radii = ((top + bottom) / 2 - 0.5, (left + right) / 2 - 0.5), ((bottom - top) / 2, (right - left) / 2)
        drawn[skimage.draw.ellipse(*centre, *radii, drawn.shape, math.radians(-shape.angle))] = value
    else:
        for points in shape.rings:
            drawn[skimage.draw.polygon(points[:, 1] - 0.5, points[:, 0] - 0.5, drawn.shape)] = value


def _inside(low: float, high: float) -> tuple[int, int]:
    """First and last (exclusive) pixel whose centre lies between two numbers or on one."""
    return max(0, math.ceil(low - 0.5)), max(0, math.floor(high - 0.5) + 1)


def _paste(drawn: np.ndarray, shape: Shape, value: int) -> None:
    """Draw a mask of runs."""
    _, left, top, right, bottom = shape.box
    height, width = round(bottom - top), round(right - left)
    runs = np.zeros(0, np.int64) if shape.runs is None else shape.runs
    if height > drawn.shape[0] or width > drawn.shape[1]:
        raise ValueError(f"a mask of {shape.label!r} is {width} x {height}, larger than its image")
    area = height * width
    if runs.min(initial=0) < 0 or runs.max(initial=0) > area or int(runs.sum()) != area:
        raise ValueError(f"the runs of a mask of {shape.label!r} do not fill {width} x {height} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    bits = flat.reshape(width, height).T if shape.columns else flat.reshape(height, width)
    first_row, first_column = round(top), round(left)
    rows = slice(max(0, first_row), max(0, first_row + height))
    columns = slice(max(0, first_column), max(0, first_column + width))
    part = drawn[rows, columns]
    kept = bits[max(0, -first_row) :, max(0, -first_column) :][: part.shape[0], : part.shape[1]]
    part[kept] = value


def runs_of(bits: np.ndarray) -> np.ndarray:
    """Lengths of the runs of a mask (y, x) along its rows, alternately outside and inside."""
    flat = np.concatenate([[False], bits.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [bits.size]]))
