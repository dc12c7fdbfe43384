"""JPEG and BMP, through Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile

from segment.errors import UserError
from segment.io.formats.base import JPEG_LIMIT, Header, ImageFormat
from segment.io.formats.palette import apply_palette, with_palette
from segment.io.geometry import Grid

_CHANNELS = {"1": 1, "L": 1, "P": 1, "RGB": 3, "RGBA": 3}  # by Pillow's mode
_TURNED = (5, 6, 7, 8)  # Exif's orientations with rows and columns exchanged
_ORIENTATION = 0x0112
_RUN = 128  # a run of BMP's is two bytes for at most 255 pixels


class Jpeg(ImageFormat):
    """Grey or colour 2D images, upright as their Exif data say. JPEG changes values, so it holds no masks.

    A pixel counts as 1 mm. Masks of such images are written as ``.png``.
    """

    suffixes = (".jpg", ".jpeg")
    dimensions = (2,)
    label_types = ()
    mask_suffix = ".png"

    def read_header(self, path: Path) -> Header:
        """Read size and colours."""
        # Not Image.open, which refuses large images; their size is checked by the caller.
        with path.open("rb") as stream, JpegImageFile(stream) as image:
            if image.mode not in _CHANNELS:
                raise UserError(f"{path} has the colours {image.mode}, which are not read. Save it as grey or RGB.")
            turned = image.getexif().get(_ORIENTATION) in _TURNED
            shape = image.size if turned else image.size[::-1]
            channels = _CHANNELS[image.mode]
        return Header(
            Grid(shape, np.eye(4), assumed=True),
            channels,
            np.dtype(np.uint8),
            unpacking=JPEG_LIMIT,
            colour=channels > 1,
            oriented=False,
            unfit="is a JPEG, whose compression changes labels. Save the mask anew as .png, from what it was drawn in",
        )

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels."""
        with path.open("rb") as stream, JpegImageFile(stream) as image:
            array = np.asarray(ImageOps.exif_transpose(image))
        return np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)


class Bmp(ImageFormat):
    """Grey, colour and palette 2D images of up to 8 bits a channel; a pixel counts as 1 mm, and alpha is dropped.

    For palettes, which grey images have too, see `segment.io.formats.palette`.
    """

    suffixes = (".bmp",)
    dimensions = (2,)
    label_types = (np.uint8,)

    def read_header(self, path: Path) -> Header:
        """Read size, colours and palette."""
        with path.open("rb") as stream, BmpImageFile(stream) as image:
            channels, table = _CHANNELS[image.mode], None
            if image.mode == "P":
                raw = image.palette  # not getpalette, which loads the image
                assert raw is not None
                table = np.frombuffer(bytes(raw.palette), np.uint8)  # BGR or BGRX
                table = table.reshape(-1, len(raw.rawmode or "BGR"))[:, 2::-1]
            header = Header(
                Grid((image.height, image.width), np.eye(4), assumed=True),
                channels,
                np.dtype(np.uint8),
                unpacking=_RUN if image.mode in ("1", "L", "P") else 2,  # 16 bits a pixel become 24
                colour=channels > 1,
                oriented=False,
                source=table,
            )
        return header if table is None else with_palette(header, table)

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels."""
        with path.open("rb") as stream, BmpImageFile(stream) as image:
            array = np.asarray(image.convert("L") if image.mode == "1" else image)
        if header.source is not None:
            return apply_palette(array, header.source, header)
        return np.moveaxis(array.reshape(*array.shape[:2], -1), -1, 0)[: header.channels]

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask as grey values."""
        Image.fromarray(array).save(path, format="BMP")
