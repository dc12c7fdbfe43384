"""PNG, through SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segment.io.formats.base import DEFLATE_LIMIT
from segment.io.formats.itk import ItkFormat


class Png(ItkFormat):
    """2D images of 8 or 16 bits; the resolution tag is for printing, so a pixel counts as 1 mm."""

    suffixes = (".png",)
    dimensions = (2,)
    label_types = (np.uint8, np.uint16)
    reader = "PNGImageIO"
    positioned = False
    compress_labels = False

    def unpacking(self, path: Path) -> int:
        """The maximum compression ratio."""
        return DEFLATE_LIMIT
