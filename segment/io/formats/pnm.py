"""PGM and PPM, the binary kinds: STARE's images and masks."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.io.formats.base import Header, ImageFormat
from segment.io.geometry import Grid

_SPACE = rb"(?:[ \t\r\n]|#[^\r\n]*[\r\n])+"
_HEAD = re.compile(rb"(P[56])%b(\d{1,9})%b(\d{1,9})%b(\d{1,5})[ \t\r\n]" % ((_SPACE,) * 3))
_HEAD_BYTES = 4096  # with comments


class Pnm(ImageFormat):
    """Grey or colour 2D images of 8 or 16 bits; a pixel counts as 1 mm.

    Numbers are read as stored, whatever maximum the header declares. The first bytes, not the suffix, say whether a
    file is grey or in colour, so a mask beside a ``.ppm`` has the same name.
    """

    suffixes = (".pgm", ".ppm")
    dimensions = (2,)
    label_types = (np.uint8, np.uint16)

    def read_header(self, path: Path) -> Header:
        """Read size, channels and type; `Header.source` is the position of the voxels."""
        with path.open("rb") as stream:
            found = _HEAD.match(stream.read(_HEAD_BYTES))
        if found is None:
            raise UserError(f"{path} is not a binary PGM or PPM file (P5 or P6). Convert it to .png.")
        width, height, most = (int(found[place]) for place in (2, 3, 4))
        if not 1 <= most <= 65535:
            raise UserError(f"{path} declares the largest value {most}, which is impossible. Convert it again.")
        channels = 1 if found[1] == b"P5" else 3
        return Header(
            Grid((height, width), np.eye(4), assumed=True),
            channels,
            np.dtype(np.uint8 if most < 256 else ">u2"),
            colour=channels > 1,
            oriented=False,
            source=found.end(),
        )

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels."""
        shape = (*header.grid.shape, header.channels)
        stored = np.fromfile(path, header.dtype, math.prod(shape), offset=header.source)
        native = stored.astype(header.dtype.newbyteorder("="), copy=False)
        return np.moveaxis(native.reshape(shape), -1, 0)

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask as grey values."""
        height, width = array.shape
        most, stored = (255, array) if array.dtype == np.uint8 else (65535, array.astype(">u2"))
        path.write_bytes(b"P5\n%d %d\n%d\n" % (width, height, most) + stored.tobytes())
