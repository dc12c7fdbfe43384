"""The voxels of a series: decoded within the memory that its headers declare, and rescaled slice by slice."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segment.io.dicom.files import damage_as_value_error, read_dataset, transfer_syntax
from segment.io.dicom.series import Series
from segment.io.dicom.slices import Slice

if TYPE_CHECKING:
    from pydicom import Dataset

PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes of pixels that are not compressed."""
# pydicom's decoder for these, GDCM, ends the process on some damaged frames, and lacks 12 bits.
_JPEG = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""JPEG of 12 bits and lossless JPEG."""
# GDCM, if it is installed, would come first.
_PLUGINS = {
    **dict.fromkeys(("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"), "pylibjpeg"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "pyjpegls"),
    "1.2.840.10008.1.2.4.50": "pillow",
}
"""Transfer syntax to the plugin of pydicom that decodes it."""
_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers that begin a frame; F7 is JPEG-LS


def read_volume(series: Series, dtype: type[np.floating] | None = None) -> np.ndarray:
    """Decode a series.

    Args:
        series: A volume, untrusted.
        dtype: Type of the values; None: `value_type`.

    Returns:
        ``(channel, z, y, x)``, or ``(channel, y, x)`` of a projection, by default as integers where nothing rescales
        them, int32 where whole numbers do, else float64.

    Raises:
        ValueError: If a file is damaged or its pixels differ from what it declared.
    """
    slices, grid = series.stack.slices, series.grid
    channels = slices[0].samples
    volume = np.empty((len(slices), *slices[0].size, channels), dtype or value_type(slices))
    places = {(item.path, item.frame): index for index, item in enumerate(slices)}
    for path, group in groupby(sorted(slices, key=lambda item: (item.path, item.frame)), key=lambda item: item.path):
        for item, frame in _frames(path, list(group)):
            volume[places[path, item.frame]] = frame
    array = np.moveaxis(volume, -1, 0)
    return array if grid.ndim == 3 else array[:, 0]


def value_type(slices: tuple[Slice, ...]) -> np.dtype:
    """Type that holds the values of slices after rescaling."""
    stored = np.result_type(*(item.dtype for item in slices))
    if all(item.slope == 1 and item.intercept == 0 and not item.table for item in slices):
        return stored
    whole = all(item.slope.is_integer() and item.intercept.is_integer() and not item.table for item in slices)
    reach = max(2**item.bits * abs(item.slope) + abs(item.intercept) if whole else np.inf for item in slices)
    return np.dtype(np.int32 if reach < 2**31 else np.float64)


def _frames(path: Path, slices: list[Slice]) -> Iterator[tuple[Slice, np.ndarray]]:
    """The planes of a file as values, ``(y, x, channel)``."""
    from pydicom.pixels import apply_modality_lut

    try:
        with damage_as_value_error():
            dataset = read_dataset(path)
            decoded = decode(dataset, slices[0])
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    for item in slices:
        frame = _used_bits(decoded[item.frame], item)
        if item.table:
            yield item, apply_modality_lut(frame, dataset)
        elif item.slope == 1 and item.intercept == 0:
            yield item, frame
        else:
            yield item, frame * np.float64(item.slope) + item.intercept


def decode(dataset: Dataset, item: Slice) -> np.ndarray:
    """Decode the pixels of a file, ``(frame, y, x, channel)`` as stored.

    Args:
        dataset: The whole file.
        item: One of its slices, with what its header declared.

    Raises:
        ValueError: If the pixels cannot be decoded, or are of another size.
    """
    shape = (item.frames, *item.size, item.samples)
    if transfer_syntax(dataset) not in PLAIN:
        _require_declared_size(dataset, item)
    elif not hasattr(dataset, "file_meta") or not dataset.file_meta.get("TransferSyntaxUID"):
        from pydicom.dataset import FileMetaDataset

        dataset.file_meta = getattr(dataset, "file_meta", FileMetaDataset())
        dataset.file_meta.TransferSyntaxUID = transfer_syntax(dataset)
    syntax = transfer_syntax(dataset)
    if syntax in _PLUGINS:
        dataset.pixel_array_options(decoding_plugin=_PLUGINS[syntax])
    pixels = _decode_jpeg(dataset, item) if syntax in _JPEG else dataset.pixel_array
    if pixels.size != np.prod(shape):
        raise ValueError(f"its pixels have the shape {pixels.shape}, not {shape}")
    return pixels.reshape(shape)


def _decode_jpeg(dataset: Dataset, item: Slice) -> np.ndarray:
    import imagecodecs
    from pydicom.encaps import generate_frames

    frames = generate_frames(dataset.PixelData, number_of_frames=item.frames)
    decoded = np.stack([imagecodecs.jpeg8_decode(frame) for frame in frames])
    return decoded.astype(f"u{item.dtype.itemsize}").view(item.dtype)


def _used_bits(frame: np.ndarray, item: Slice) -> np.ndarray:
    """Clear the bits above those that are used, in which old files keep overlays, and extend the sign."""
    unused = item.dtype.itemsize * 8 - item.bits
    if frame.dtype.kind not in "iu" or unused <= 0 or item.syntax not in (*PLAIN, *_JPEG):
        return frame
    return (frame << unused) >> unused


def _require_declared_size(dataset: Dataset, item: Slice) -> None:
    """Compare the sizes in compressed frames with the declared one, since a decoder allocates what they say."""
    from pydicom.encaps import generate_frames

    for frame in generate_frames(dataset.PixelData, number_of_frames=item.frames):
        size = codestream_size(frame)
        if size is not None and size != (*item.size, item.samples):
            raise ValueError(f"its compressed pixels are {size}, but it declares {(*item.size, item.samples)}")


def codestream_size(stream: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components that a JPEG, JPEG-LS or JPEG 2000 frame declares.

    Args:
        stream: A compressed frame.

    Returns:
        None for RLE, whose size is that of the DICOM header.

    Raises:
        ValueError: If it begins as one of these but declares no size.
    """
    start = stream.find(b"\xff\x4f\xff\x51", 0, 1 << 12)
    if 0 <= start <= len(stream) - 42:
        width, height, left, top = struct.unpack_from(">IIII", stream, start + 8)
        return height - top, width - left, struct.unpack_from(">H", stream, start + 40)[0]
    if stream[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 10 <= len(stream) and stream[place] == 0xFF:
        marker, length = stream[place + 1], struct.unpack_from(">H", stream, place + 2)[0]
        if marker in _JPEG_FRAMES:
            height, width, components = struct.unpack_from(">HHB", stream, place + 5)
            return height, width, components
        place += 1 if marker == 0xFF else 2 + length
    raise ValueError("its compressed pixels declare no size")
