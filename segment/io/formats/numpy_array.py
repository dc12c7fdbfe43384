"""NumPy's ``.npy`` and ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from segment.errors import UserError
from segment.io.formats.base import DEFLATE_LIMIT, Header, ImageFormat
from segment.io.geometry import Grid


class NumpyArray(ImageFormat):
    """One array of numbers: (y, x), (z, y, x) or (channel, z, y, x). A voxel counts as 1 mm.

    An ``.npz`` must contain a single array. Pickled objects are refused.
    """

    suffixes = (".npy", ".npz")

    def read_header(self, path: Path) -> Header:
        """Read shape and type."""
        with _array_stream(path) as (stream, unpacking):
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise UserError(f"{path} contains Python objects, which could run code. Save an array of numbers.")
        return array_header(path, shape, dtype, unpacking)

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels."""
        with _array_stream(path) as (stream, _):
            array = np.lib.format.read_array(stream, allow_pickle=False)
            stream.read(1)  # at the end, zipfile compares the checksum
        return array.reshape(header.channels, *header.grid.shape)

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask."""
        with path.open("wb") as stream:
            if path.name.lower().endswith(".npz"):
                np.savez_compressed(stream, label=array)
            else:
                np.save(stream, array, allow_pickle=False)


def array_header(path: Path, shape: tuple[int, ...], dtype: np.dtype, unpacking: int) -> Header:
    """Header of an array whose axes have no names.

    Args:
        path: The file, for errors.
        shape: Of the array.
        dtype: Of a number.
        unpacking: As `Header.unpacking`.

    Returns:
        The header: (y, x), (z, y, x) or (channel, z, y, x).

    Raises:
        UserError: If it has another number of axes, or seems to end in colours.
    """
    if len(shape) not in (2, 3, 4):
        raise UserError(f"{path} has {len(shape)} axes. Save (y, x), (z, y, x) or (channel, z, y, x).")
    if len(shape) > 2 and shape[-1] <= 4 < min(shape[:-1]):
        raise UserError(
            f"{path} has the shape {shape}, which seems to end in channels, but its last axes are read as z, y and x. "
            "Save it as (channel, z, y, x), or 2D images as .png or .tif."
        )
    grid = Grid(shape[-3:], np.eye(4), assumed=True)
    return Header(grid, shape[0] if len(shape) == 4 else 1, dtype, unpacking=unpacking, oriented=False)


@contextmanager
def _array_stream(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The stream of the only array of a file, and its maximum compression ratio."""
    if not path.name.lower().endswith(".npz"):
        with path.open("rb") as stream:
            yield stream, 1
        return
    with zipfile.ZipFile(path) as archive:
        names = [item.filename for item in archive.infolist()]
        if len(names) != 1:
            listed = ", ".join(names[:5])
            raise UserError(f"{path} contains {len(names)} arrays ({listed}). Save the one to be read alone.")
        with archive.open(names[0]) as stream:
            yield stream, DEFLATE_LIMIT
