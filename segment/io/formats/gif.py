"""GIF, through Pillow: DRIVE's masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segment.errors import UserError
from segment.io.formats.base import Header, ImageFormat
from segment.io.formats.palette import apply_palette, with_palette
from segment.io.geometry import Grid

# A code of 12 bits stands for at most 4095 pixels.
_LIMIT = 2731


class Gif(ImageFormat):
    """Single 2D images of 8 bits, grey or with a palette; a pixel counts as 1 mm."""

    suffixes = (".gif",)
    dimensions = (2,)
    label_types = (np.uint8,)

    def read_header(self, path: Path) -> Header:
        """Read the size; refuse a film."""
        with Image.open(path, formats=["GIF"]) as image:
            if image.is_animated:  # type: ignore[attr-defined]
                raise UserError(f"{path} is a film of several images. Save one image per file, as .png.")
            grid = Grid((image.height, image.width), np.eye(4), assumed=True)
            header = Header(grid, channels=1, dtype=np.dtype(np.uint8), unpacking=_LIMIT, oriented=False)
            return with_palette(header, _table(image)) if image.mode == "P" else header

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read grey values, colours, or as a mask the indices of a palette of colours."""
        with Image.open(path, formats=["GIF"]) as image:
            if image.mode not in ("L", "P"):
                raise UserError(f"{path} is a GIF of several palettes. Convert it to .png.")
            values = np.asarray(image)
            return apply_palette(values, _table(image), header) if image.mode == "P" else values[np.newaxis]

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask as grey values."""
        Image.fromarray(array).save(path, format="GIF")


def _table(image: Image.Image) -> np.ndarray:
    """The palette; colours that it lacks are black."""
    table = np.zeros((256, 3), np.uint8)
    colours = np.reshape(image.getpalette("RGB") or [], (-1, 3))
    table[: len(colours)] = colours
    return table
