"""What is drawn over a slice, uint8 ``(H, W, 3)``: masks, contours, errors and the directions of the body."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MISSED, INVENTED, MISLABELLED = (255, 59, 48), (64, 156, 255), (255, 214, 10)
"""Colours of an error map: structure only in the reference, only in the prediction, and under another label."""
_OPACITY = 0.35
_DASH = 8  # dash length of a contour, in pixels; half of it along a row


def outline(mask: np.ndarray) -> np.ndarray:
    """The label pixels that touch another class; the border of the picture does not count."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (mask > 0) & np.logical_or.reduce([inner != neighbour for neighbour in neighbours])


def painted(base: np.ndarray, mask: np.ndarray, palette: np.ndarray, opacity: float = _OPACITY) -> np.ndarray:
    """A picture overlaid with a mask of the same size, translucent with an opaque outline."""
    covered = np.where(outline(mask), 1.0, opacity) * (mask > 0)
    paint = palette[mask]
    return (base + (paint.astype(np.float64) - base) * covered[..., None]).round().astype(np.uint8)


def contours(base: np.ndarray, reference: np.ndarray, prediction: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """A picture with the outlines of two masks: the reference solid, the prediction dashed where it differs."""
    rows, columns = np.indices(reference.shape)
    dashes = (rows + 2 * columns) // _DASH % 2 == 0  # the slope makes horizontal, vertical and diagonal lines dashed
    drawn = base.copy()
    for mask, part in ((prediction, dashes), (reference, True)):
        edge = outline(mask)
        edge |= outline(np.where(edge, 0, mask))  # two pixels wide
        drawn[edge & part] = palette[mask[edge & part]]
    return drawn


def errors(base: np.ndarray, reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """A darkened picture with what the prediction missed, invented or gave another label."""
    drawn = (base * 0.6).astype(np.uint8)
    found, predicted = reference > 0, prediction > 0
    for colour, part in (
        (MISSED, found & ~predicted),
        (INVENTED, predicted & ~found),
        (MISLABELLED, found & predicted & (reference != prediction)),
    ):
        drawn[part] = colour
    drawn[outline(reference) & (reference == prediction)] = 235  # where the outline is right
    return drawn


_PLANES = ("axial", "coronal", "sagittal")
_EDGES = (("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I"))  # left, right, top, bottom of each plane


def lettered(picture: np.ndarray, axis: int) -> np.ndarray:
    """A slice across an axis (z, y, x) in the radiological view, with its plane and the directions of the body."""
    whole = Image.fromarray(picture)
    draw, (width, height) = ImageDraw.Draw(whole), whole.size
    font = ImageFont.load_default(size=15)
    left, right, top, bottom = _EDGES[axis]
    places: list[tuple[tuple[float, float], str, str]] = [
        ((4, 3), _PLANES[axis], "lt"),
        ((4, height / 2), left, "lm"),
        ((width - 4, height / 2), right, "rm"),
        ((width / 2, 3), top, "mt"),
        ((width / 2, height - 4), bottom, "mb"),
    ]
    for place, text, anchor in places:
        draw.text(place, text, fill=(255, 255, 255), font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(whole)
