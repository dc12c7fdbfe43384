"""PNG, through Pillow, and imagecodecs where Pillow would reduce 16 bits to 8."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from segment.errors import UserError
from segment.io.formats.base import DEFLATE_LIMIT, Header, ImageFormat
from segment.io.formats.palette import apply_palette, with_palette
from segment.io.geometry import Grid

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = 3
_SAMPLES = {0: 1, 2: 3, _PALETTE: 1, 4: 2, 6: 4}  # by colour type: grey, RGB, palette, grey and RGB with alpha
_BLOCK = 1 << 20


class Png(ImageFormat):
    """2D images of 1 to 16 bits; the resolution tag is for printing, so a pixel counts as 1 mm.

    Numbers are read as stored, so that a mask of 1 bit holds 0 and 1. Alpha is dropped, and a transparent colour
    ignored. For palettes see `segment.io.formats.palette`.
    """

    suffixes = (".png",)
    dimensions = (2,)
    label_types = (np.uint8, np.uint16)
    revision = "2"

    def read_header(self, path: Path) -> Header:
        """Read size, type and palette."""
        palette = b""
        with path.open("rb") as stream:
            parts = chunks(stream)
            name, length = next(parts)
            if (name, length) != (b"IHDR", 13):
                raise ValueError("it does not begin with IHDR")
            width, height, bits, kind = struct.unpack(">IIBB", stream.read(10))
            for name, length in parts:
                if name == b"acTL":
                    raise UserError(f"{path} is a film of several images. Save one image per file.")
                if name == b"PLTE":
                    palette = stream.read(min(length, 768))
                if name == b"IDAT":
                    break
        table = np.frombuffer(palette, np.uint8).reshape(-1, 3) if kind == _PALETTE else None
        samples = _SAMPLES[kind]
        header = Header(
            Grid((height, width), np.eye(4), assumed=True),
            channels=samples - (kind in (4, 6)),
            dtype=np.dtype(np.uint16 if bits == 16 else np.uint8),
            components=samples,
            unpacking=DEFLATE_LIMIT * max(1, 8 // bits),
            colour=samples > 2,
            oriented=False,
            source=(bits, table),
        )
        return header if table is None else with_palette(header, table)

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels, after verifying the checksum of each chunk."""
        bits, table = header.source
        with path.open("rb") as stream:
            _verify(path, stream)
            stream.seek(0)
            if bits == 16 and header.components != 1:
                import imagecodecs

                array = imagecodecs.png_decode(stream.read())
            else:
                # Not Image.open, which refuses large images; their size has been checked.
                with PngImageFile(stream) as image:
                    array = np.asarray(image)
        if table is not None:
            return apply_palette(array, table, header)
        if bits in (2, 4):
            array = array // (255 // ((1 << bits) - 1))  # undo Pillow's scaling
        return array[np.newaxis] if array.ndim == 2 else np.moveaxis(array, -1, 0)[: header.channels]

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask as grey values."""
        Image.fromarray(array).save(path, format="PNG")


def chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length of every chunk up to IEND; the stream is then at its content, and may be read."""
    if stream.read(8) != _SIGNATURE:
        raise ValueError("it does not begin as a PNG file")
    name = b""
    while name != b"IEND":
        length, name = struct.unpack(">I4s", stream.read(8))
        after = stream.tell() + length + 4
        yield name, length
        stream.seek(after)


def _verify(path: Path, stream: BinaryIO) -> None:
    """Compare each chunk with its checksum: a wrong byte would otherwise give another image."""
    for name, length in chunks(stream):
        found = zlib.crc32(name)
        while length > 0 and (block := stream.read(min(length, _BLOCK))):
            found = zlib.crc32(block, found)
            length -= len(block)
        if stream.read(4) != found.to_bytes(4, "big"):
            raise UserError(
                f"{path} is truncated or damaged: the checksum of its part {name.decode('latin-1')!r} is wrong. "
                "Copy it again from its source."
            )
