"""CVAT's XML ("CVAT for images 1.1", "for video 1.1"): one file for many images, with boxes, polygons, ellipses and
masks; of a video, tracks of them.

Source: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat. Shapes are drawn by ``z_order``, then by their
order in the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.io.annotations.shapes import Annotated, Annotations, Collected, Shape, corners, numbers, ring
from segment.io.annotations.xml_files import read_xml, size_of

_DRAWN = ("box", "polygon", "ellipse", "mask")


def read(file: Path) -> Annotations:
    """Read the shapes of every image.

    Args:
        file: The XML file.

    Returns:
        The images. The value of a label is its place in the task's list of labels.

    Raises:
        UserError: If it is damaged or a shape is incomplete.
    """
    root = read_xml(file)
    if root.tag != "annotations":
        raise UserError(f"{file} is not CVAT's XML: its first element is <{root.tag}>, not <annotations>.")
    names = [str(label.text or "").strip() for label in root.findall("meta//labels/label/name")]
    values = {name: place for place, name in enumerate(dict.fromkeys(names), 1)}
    frames = _frames(root, file) if root.find("track") is not None else ()
    return Annotations((*(_image(entry, file) for entry in root.findall("image")), *frames), values)


def _frames(root: Any, file: Path) -> Iterator[Annotated]:
    """The frames of a video that tracks are seen in, called as CVAT exports them."""
    width, height = (str(root.findtext(f"meta//original_size/{side}") or "") for side in ("width", "height"))
    size = size_of(width, height, file)
    shapes: dict[int, list[tuple[str, Any]]] = {}
    for track in root.findall("track"):
        for shape in track:
            (number,) = numbers([shape.get("frame", "")], file)
            if shape.get("outside") != "1":
                shapes.setdefault(int(number), []).append((str(track.get("label") or ""), shape))
    for number, seen in sorted(shapes.items()):
        yield _collected(seen, file, f"frame_{number:06d}.PNG", size)


def _image(entry: Any, file: Path) -> Annotated:
    size = size_of(str(entry.get("width") or ""), str(entry.get("height") or ""), file)
    named = [(str(shape.get("label") or ""), shape) for shape in entry]
    return _collected(named, file, str(entry.get("name") or ""), size)


def _collected(shapes: list[tuple[str, Any]], file: Path, name: str, size: tuple[int, int] | None) -> Annotated:
    """Shapes with their labels, drawn by their order in depth."""
    found = Collected(file)
    for label, shape in sorted(shapes, key=lambda item: int(numbers([item[1].get("z_order", "0")], file)[0])):
        if shape.tag in _DRAWN:
            found.add(_shape(shape, label, file))
        elif shape.get("points"):
            found.skip(label, shape.tag)
    return found.annotated(name, size)


def _shape(shape: Any, label: str, file: Path) -> Shape:
    def sides(*keys: str) -> list[float]:
        return numbers([shape.get(key, "") for key in keys], file)

    (angle,) = numbers([shape.get("rotation", "0")], file)
    if shape.tag == "box":
        rings = corners(*sides("xtl", "ytl", "xbr", "ybr"))
        return Shape(label, "polygon", (_turned(rings[0], angle),)) if angle else Shape(label, "box", rings)
    if shape.tag == "ellipse":
        x, y, across, down = sides("cx", "cy", "rx", "ry")
        return Shape(label, "ellipse", corners(x - across, y - down, x + across, y + down), angle)
    if shape.tag == "mask":
        left, top, width, height = sides("left", "top", "width", "height")
        runs = numbers(str(shape.get("rle") or "").replace(",", " ").split(), file)
        rectangle = corners(left, top, left + width, top + height)
        return Shape(label, "mask", rectangle, runs=np.array(runs).astype(np.int64))
    points = str(shape.get("points") or "").replace(";", ",").split(",")
    return Shape(label, "polygon", (ring(numbers(points, file), file),))


def _turned(ends: np.ndarray, angle: float) -> np.ndarray:
    """The corners (4, 2) of a box that is turned clockwise about its centre."""
    (left, top), (right, bottom) = ends
    points, centre = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), ends.mean(axis=0)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turned: np.ndarray = centre + (points - centre) @ np.array([[cosine, sine], [-sine, cosine]])
    return turned
