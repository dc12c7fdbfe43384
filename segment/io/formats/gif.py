"""GIF, through Pillow: DRIVE's masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segment.errors import UserError
from segment.io.formats.base import Header, ImageFormat
from segment.io.geometry import Grid

# A code of 12 bits stands for at most 4095 pixels.
_LIMIT = 2731


class Gif(ImageFormat):
    """Single grey 2D images of 8 bits; a pixel counts as 1 mm."""

    suffixes = (".gif",)
    dimensions = (2,)
    label_types = (np.uint8,)

    def read_header(self, path: Path) -> Header:
        """Read the size; refuse a film."""
        with Image.open(path, formats=["GIF"]) as image:
            if image.is_animated:  # type: ignore[attr-defined]
                raise UserError(f"{path} is a film of several images. Save one image per file, as .png.")
            grid = Grid((image.height, image.width), np.eye(4), assumed=True)
        return Header(grid, channels=1, dtype=np.dtype(np.uint8), unpacking=_LIMIT, oriented=False)

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the grey values; an image in colours is refused, since its numbers are places in a table of colours."""
        with Image.open(path, formats=["GIF"]) as image:
            if image.mode != "L":
                used = np.unique(np.asarray(image))
                colours = np.reshape(image.getpalette("RGB") or [], (-1, 3))[used]
                if (colours != colours[:, :1]).any():
                    raise UserError(f"{path} is a GIF in colours. Convert it to .png.")
            return np.asarray(image.convert("L"))[np.newaxis]

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask as grey values."""
        Image.fromarray(array).save(path, format="GIF")
