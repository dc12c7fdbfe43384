"""YOLO's text files: one per image, ``CLASS X Y WIDTH HEIGHT`` or ``CLASS X Y X Y X Y ...`` in fractions of the image.

Source: https://docs.ultralytics.com/datasets/detect and /segment; LabelImg writes the first form.
"""

from __future__ import annotations

from pathlib import Path

from segment.errors import UserError
from segment.io.annotations.shapes import Annotations, Collected, Shape, corners, numbers, read_bytes, ring

NAME_FILES = ("classes.txt", "obj.names", "data.yaml", "dataset.yaml")


def read(file: Path, names: tuple[str, ...] = ()) -> Annotations:
    """Read the boxes or outlines of one image.

    Args:
        file: The text file.
        names: Names of the classes in their order; ``class_0`` and so on beyond them.

    Raises:
        UserError: If a line is neither a box nor an outline.
    """
    found = Collected(file)
    for line in _lines(file):
        values = numbers(line.split(), file)
        index, coordinates = values[0], values[1:]
        if index != int(index) or not 0 <= index < 255 or len(coordinates) < 4:
            raise UserError(f"{file}: {line[:80]!r} is neither a box nor an outline. Correct the line.")
        label = names[int(index)] if index < len(names) else f"class_{int(index)}"
        if len(coordinates) == 4:
            x, y, width, height = coordinates
            sides = corners(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            found.add(Shape(label, "box", sides))
        else:
            found.add(Shape(label, "polygon", (ring(coordinates, file),)))
    return Annotations((found.annotated(file.stem, relative=True),), {name: i + 1 for i, name in enumerate(names)})


def read_names(file: Path) -> tuple[str, ...]:
    """Read the names of the classes.

    Args:
        file: One of `NAME_FILES`: a name per line, or ``names`` as a list or a mapping in YAML.

    Raises:
        UserError: If it is damaged.
    """
    if file.suffix != ".yaml":
        return tuple(_lines(file))
    from segment.files import read_mapping

    names = read_mapping(file, "Give names: [...] as Ultralytics does.").get("names")
    listed = [names[key] for key in sorted(names)] if isinstance(names, dict) else names
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise UserError(f"{file}: names is neither a list of names nor a mapping 0, 1, ... to names. Correct it.")
    return tuple(listed)


def _lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        return [line.strip() for line in read_bytes(file).decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text. Save it again.") from error
