"""Pascal VOC's XML, as LabelImg writes it: one file per image, with boxes.

Source: Everingham et al. 2010, https://doi.org/10.1007/s11263-009-0275-4; LabelImg's ``libs/pascal_voc_io.py``, which
stores the corners where they were clicked, rounded to whole pixels, with 1 in place of 0: a box of ``xmin=10`` and
``xmax=20`` covers the pixels 10 to 19, counted from 0.
"""

from __future__ import annotations

from pathlib import Path

from segment.errors import UserError
from segment.io.annotations.shapes import Annotations, Collected, Shape, corners, numbers
from segment.io.annotations.xml_files import read_xml, size_of, text_of


def read(file: Path) -> Annotations:
    """Read the boxes of one image.

    Args:
        file: The XML file.

    Raises:
        UserError: If it is damaged or a box is incomplete.
    """
    root = read_xml(file)
    if root.tag != "annotation":
        raise UserError(f"{file} is not Pascal VOC's XML: its first element is <{root.tag}>, not <annotation>.")
    found = Collected(file)
    for entry in root.iter("object"):
        sides = [text_of(entry, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        left, top, right, bottom = numbers(sides, file)
        found.add(Shape(text_of(entry, "name"), "box", corners(left, top, right, bottom)))
    size = size_of(text_of(root, "size/width"), text_of(root, "size/height"), file)
    return Annotations((found.annotated(file.stem, size),))
