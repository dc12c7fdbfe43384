"""Shapes that were drawn on images, whatever program wrote them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from segment.errors import UserError

MAX_BYTES = 1 << 28  # of a file of annotations
LARGEST = 1e7  # coordinate, in pixels
Kind = Literal["box", "ellipse", "polygon", "mask"]


class Box(NamedTuple):
    """A bounding box.

    Attributes:
        label: Name of the structure.
        left: Smallest x.
        top: Smallest y.
        right: Largest x.
        bottom: Largest y.
    """

    label: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, eq=False)
class Shape:
    """One shape.

    Attributes:
        label: Name of the structure.
        kind: How the shape is drawn.
        rings: Points (n, 2), x and y. Polygon: one ring or several, whose union counts. Box and ellipse: two opposite
            corners of the bounding box, before the ellipse is turned. Mask: that of the rectangle that it fills.
        angle: Degrees by which an ellipse is turned clockwise, as seen on the screen.
        runs: Mask: lengths of the runs of pixels, alternately outside and inside.
        columns: Mask: whether its runs go down the columns, not along the rows.
    """

    label: str
    kind: Kind
    rings: tuple[np.ndarray, ...]
    angle: float = 0.0
    runs: np.ndarray | None = None
    columns: bool = False

    @property
    def box(self) -> Box:
        """The bounding box of its points."""
        points = np.concatenate(self.rings)
        (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return Box(self.label, left, top, right, bottom)


@dataclass(frozen=True)
class Annotated:
    """The annotations of one image.

    Attributes:
        image: Its name or path as the file of annotations has it; with any suffix or none.
        shapes: The shapes in the order in which they are drawn: later ones over earlier ones.
        file: The file of annotations.
        size: Width and height that the file states; None if it states none.
        relative: Whether coordinates are fractions of the image's width and height.
        left_out: One sentence about every shape that cannot be drawn.
        boxless: Boxes without an area, which cannot be drawn.
    """

    image: str
    shapes: tuple[Shape, ...]
    file: Path
    size: tuple[int, int] | None = None
    relative: bool = False
    left_out: tuple[str, ...] = ()
    boxless: tuple[Box, ...] = ()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The bounding boxes of all objects, also of boxes without an area."""
        return (*(shape.box for shape in self.shapes), *self.boxless)

    def in_pixels(self, width: int, height: int) -> Annotated:
        """The same annotations, with coordinates in pixels of an image of this size."""
        if not self.relative:
            return self
        scale = np.array([width, height])
        shapes = tuple(replace(shape, rings=tuple(ring * scale for ring in shape.rings)) for shape in self.shapes)
        boxless = tuple(
            Box(box.label, box.left * width, box.top * height, box.right * width, box.bottom * height)
            for box in self.boxless
        )
        return replace(self, shapes=shapes, boxless=boxless, relative=False)


@dataclass(frozen=True)
class Annotations:
    """The content of one file of annotations.

    Attributes:
        images: The annotated images.
        values: Name of a structure to the value that it gets in masks, if the file states an order of names.
    """

    images: tuple[Annotated, ...]
    values: Mapping[str, int] = field(default_factory=dict)


class Collected:
    """Collects the shapes of one image, those without an area aside.

    Args:
        file: The file of annotations, for messages.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.shapes: list[Shape] = []
        self.left_out: list[str] = []
        self.boxless: list[Box] = []
        self.seen = 0

    def add(self, shape: Shape) -> None:
        """Add a shape; one without an area is left out and noted.

        Raises:
            UserError: If it has no name or a coordinate is no plausible number.
        """
        self.seen += 1
        if not shape.label:
            raise UserError(f"{self.file}: object {self.seen} has no label. Name it.")
        rings = [ring for ring in shape.rings if shape.kind != "polygon" or len(ring) > 2]
        points = np.concatenate(rings) if rings else np.zeros((0, 2))
        if not np.isfinite(points).all() or np.abs(points).max(initial=0) > LARGEST:
            raise UserError(
                f"{self.file}: object {self.seen} ({shape.label}) has an impossible coordinate. Correct it."
            )
        area = np.ptp(points, axis=0).min() if len(points) else 0
        if area > 0:
            self.shapes.append(replace(shape, rings=tuple(rings)))
            return
        where = f" at ({points[0, 0]:g}, {points[0, 1]:g})" if len(points) else ""
        self.left_out.append(f"Object {self.seen}, a {shape.kind} of {shape.label!r}{where}, has no area.")
        if shape.kind == "box":
            self.boxless.append(shape.box)

    def skip(self, label: str, kind: str) -> None:
        """Note an object of a kind that has no area, such as a point."""
        self.seen += 1
        self.left_out.append(f"Object {self.seen} of {label!r}, of the kind {kind}, has no area.")

    def annotated(self, image: str, size: tuple[int, int] | None = None, relative: bool = False) -> Annotated:
        """The annotations collected, as those of an image."""
        return Annotated(
            image, tuple(self.shapes), self.file, size, relative, tuple(self.left_out), tuple(self.boxless)
        )


def numbers(values: Iterable[object], file: Path) -> list[float]:
    """Convert texts or numbers to finite numbers.

    Args:
        values: The values as the file has them.
        file: The file, for messages.

    Raises:
        UserError: If one is not a finite number.
    """
    found = []
    for value in values:
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{file}: {str(value)[:80]!r} is not a coordinate. Correct it.")
        found.append(number)
    return found


def corners(left: float, top: float, right: float, bottom: float) -> tuple[np.ndarray]:
    """The rings of a box or an ellipse, from its sides."""
    return (np.array([[left, top], [right, bottom]], float),)


def ring(coordinates: list[float], file: Path) -> np.ndarray:
    """Points (n, 2) from x, y, x, y, ...

    Raises:
        UserError: If the number of coordinates is odd.
    """
    if len(coordinates) % 2:
        raise UserError(f"{file}: an outline has {len(coordinates)} coordinates, an odd number. Correct it.")
    return np.array(coordinates, float).reshape(-1, 2)


def read_bytes(file: Path) -> bytes:
    """Read a file of annotations whole.

    Raises:
        UserError: If it cannot be read or is too large for one.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}). Check the path.") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{file} is larger than {MAX_BYTES:,} bytes, too large for annotations. Split it.")
    return content
