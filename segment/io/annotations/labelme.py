"""LabelMe's JSON: one file per image, with polygons, rectangles, circles and masks.

Source: https://github.com/wkentaro/labelme, ``labelme/utils/shape.py``. An image within the file is not read.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.io.annotations.json_files import items, whole
from segment.io.annotations.raster import runs_of
from segment.io.annotations.shapes import Annotations, Collected, Shape, corners, numbers, ring

_LARGEST_MASK = 1 << 26  # pixels


def parse(content: dict[str, Any], file: Path) -> Annotations:
    """Read the shapes of one image.

    Args:
        content: The content of the JSON file.
        file: The file, for messages.

    Raises:
        UserError: If a shape is incomplete.
    """
    found = Collected(file)
    for entry in items(content, "shapes"):
        _add(found, entry, file)
    width, height = whole(content, "imageWidth"), whole(content, "imageHeight")
    image = PureWindowsPath(str(content.get("imagePath") or file.stem)).name
    return Annotations((found.annotated(image, (width, height) if width > 0 and height > 0 else None),))


def _add(found: Collected, entry: dict[str, Any], file: Path) -> None:
    label, kind = str(entry.get("label") or ""), str(entry.get("shape_type") or "polygon")
    pairs = entry.get("points")
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise UserError(f"{file}: the points of an object of {label!r} are not pairs of numbers. Correct it.")
    points = ring(numbers([number for pair in pairs for number in pair], file), file)
    if kind == "polygon":
        found.add(Shape(label, "polygon", (points,)))
    elif kind in ("rectangle", "circle", "mask") and len(points) != 2:
        raise UserError(f"{file}: a {kind} of {label!r} has {len(points)} points, not 2. Correct it.")
    elif kind == "rectangle":
        found.add(Shape(label, "box", (points,)))
    elif kind == "circle":
        (x, y), radius = points[0], math.dist(points[0], points[1])
        found.add(Shape(label, "ellipse", corners(x - radius, y - radius, x + radius, y + radius)))
    elif kind == "mask":
        bits = _mask(entry.get("mask"), file)
        left, top = np.round(points.min(axis=0))
        rectangle = corners(left, top, left + bits.shape[1], top + bits.shape[0])
        found.add(Shape(label, "mask", rectangle, runs=runs_of(bits)))
    else:
        found.skip(label, kind)


def _mask(text: object, file: Path) -> np.ndarray:
    """The pixels (y, x) of a mask, a PNG in base64."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(str(text), validate=True)), formats=["PNG"]) as image:
            if math.prod(image.size) > _LARGEST_MASK:
                raise ValueError(f"its size is {image.size}")
            return np.asarray(image.convert("L")) > 0
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise UserError(f"{file}: a mask is not a PNG in base64 ({error}). Export it again.") from error
