"""COCO's JSON: one file for many images, with polygons, run-length masks and boxes.

Source: https://cocodataset.org/#format-data and pycocotools' ``maskApi.c``, whose compressed runs are read here. An
object without a segmentation is its box.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.io.annotations.json_files import items, whole
from segment.io.annotations.shapes import Annotated, Annotations, Collected, Shape, corners, numbers, ring

_MOST_VALUES = 254


def parse(content: dict[str, Any], file: Path) -> Annotations:
    """Read the objects of every image.

    Args:
        content: The content of the JSON file.
        file: The file, for messages.

    Returns:
        The images. The value of a category is its number, if all are from 1 to 254, else its place in their order.

    Raises:
        UserError: If an object is incomplete or names an image or category that is not listed.
    """
    names = {whole(entry, "id"): str(entry.get("name") or "") for entry in items(content, "categories")}
    numbered = all(1 <= number <= _MOST_VALUES for number in names)
    values = {name: number if numbered else place for place, (number, name) in enumerate(sorted(names.items()), 1)}
    images = {whole(entry, "id"): entry for entry in items(content, "images")}
    found: dict[int, Collected] = defaultdict(lambda: Collected(file))
    for entry in items(content, "annotations"):
        image, category = whole(entry, "image_id"), whole(entry, "category_id")
        if image not in images or category not in names:
            what = f"image {image}" if image not in images else f"category {category}"
            raise UserError(f"{file}: an annotation is of {what}, which is not listed. Correct it.")
        found[image].add(_shape(entry, names[category], file))
    return Annotations(tuple(_annotated(found[number], entry) for number, entry in images.items()), values)


def _annotated(collected: Collected, entry: dict[str, Any]) -> Annotated:
    width, height = whole(entry, "width"), whole(entry, "height")
    return collected.annotated(str(entry.get("file_name") or ""), (width, height) if width and height else None)


def _shape(entry: dict[str, Any], label: str, file: Path) -> Shape:
    outline = entry.get("segmentation")
    if isinstance(outline, list) and outline:
        parts = [part for part in outline if isinstance(part, list)]
        return Shape(label, "polygon", tuple(ring(numbers(part, file), file) for part in parts))
    if isinstance(outline, dict):
        rows, columns = numbers(_pair(outline.get("size")), file)
        return Shape(label, "mask", corners(0, 0, columns, rows), runs=_runs(outline.get("counts"), file), columns=True)
    box = entry.get("bbox")
    left, top, width, height = numbers(box if isinstance(box, list) and len(box) == 4 else [None] * 4, file)
    return Shape(label, "box", corners(left, top, left + width, top + height))


def _pair(size: object) -> list[object]:
    return size if isinstance(size, list) and len(size) == 2 else [None, None]


def _runs(counts: object, file: Path) -> np.ndarray:
    """Lengths of runs, from a list or from the compressed text."""
    try:
        if isinstance(counts, str):
            return _unpacked(counts.encode("ascii"))
        if isinstance(counts, list) and all(type(count) is int for count in counts):
            return np.array(counts, np.int64).reshape(-1)
    except (ValueError, OverflowError):
        pass
    raise UserError(f"{file}: the counts of a mask are neither a list of numbers nor COCO's text. Export it again.")


def _unpacked(text: bytes) -> np.ndarray:
    """Runs of 5 bits a character, lowest first, the sixth for more; from the fourth run on, less the one two before."""
    runs: list[int] = []
    number = shift = 0
    for character in text:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("not a text of runs")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        runs.append(number + runs[-2] if len(runs) > 2 else number)
        number = shift = 0
    return np.array(runs, np.int64)
