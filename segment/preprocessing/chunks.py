"""Arrays on disk in small compressed blocks (Blosc2), read box by box."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from segment.errors import UserError
from segment.files import with_reason

BLOCK = 1 << 12  # voxels that are decompressed together: 16 x 16 x 16, or 64 x 64
CHUNK = 1 << 18  # maximum number of voxels that are compressed together


def chunk_shape(shape: Sequence[int], patch: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of chunks and of the blocks within them, so that reading a patch decompresses little more than the patch.

    Args:
        shape: Shape of the array; axes before those of the patch have a chunk size of 1.
        patch: Voxels of a patch.

    Returns:
        Chunk and block shape, neither larger than the array. A chunk is about half a patch along each axis,
        or the whole scan if it is small.
    """
    leading = len(shape) - len(patch)
    block_side = round(BLOCK ** (1 / len(patch)))
    max_side = round(CHUNK ** (1 / len(patch)))
    chunk, block = [1] * leading, [1] * leading
    for size, extent in zip(shape[leading:], patch, strict=True):
        half = block_side * math.ceil(min(max(extent / 2, block_side), max_side) / block_side)
        chunk.append(size if math.prod(shape[leading:]) <= CHUNK else min(size, half))  # small scans are one chunk
        block.append(min(size, block_side))
    return tuple(chunk), tuple(block)


def write_chunked(path: Path, array: np.ndarray, patch: Sequence[int]) -> None:
    """Write an array in losslessly compressed chunks.

    Args:
        path: File to write.
        array: Any numeric array.
        patch: Typical read size: voxels along the last axes.

    Raises:
        OSError: When the file cannot be written, for example since the disk is full.
    """
    chunk, block = chunk_shape(array.shape, patch)
    with with_reason(path):
        blosc2.asarray(
            np.ascontiguousarray(array),
            urlpath=str(path),
            chunks=chunk,
            blocks=block,
            cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1, "filters": [blosc2.Filter.SHUFFLE]},
            dparams={"nthreads": 1},  # otherwise every array starts threads
        )


class Chunked:
    """An array in a file written by `write_chunked`; slicing reads the required blocks without caching them.

    Args:
        path: The file.
        shape: The array's shape.
        dtype: The type of what is read.
        stored: The type in the file; None: the same.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: Any, stored: Any = None) -> None:
        self.path = path
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.stored = np.dtype(stored or dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part as a copy.

        Raises:
            UserError: If the file is damaged.
        """
        try:
            # One thread and no memory map: forked loader processes share nothing, and no file stays open.
            array = blosc2.open(str(self.path), mode="r", dparams={"nthreads": 1})
            if array.shape != self.shape or array.dtype != self.stored:
                raise RuntimeError(f"contains {array.dtype} {array.shape}")
            return np.asarray(array[key]).astype(self.dtype, copy=False)
        except (RuntimeError, OSError, ValueError) as error:
            (self.path.parent / "entry.txt").unlink(missing_ok=True)
            raise UserError(
                f"{self.path}: this prepared scan is damaged ({error}). Run again to prepare it again."
            ) from error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...].astype(dtype or self.dtype, copy=False)


def rounded(array: np.ndarray, dtype: Any) -> tuple[np.ndarray, float]:
    """An array in another floating-point type, and the largest absolute error of its values.

    Args:
        array: (channel, *spatial), finite.
        dtype: The type, such as float16.

    Raises:
        OverflowError: When a value is beyond the type's range.
    """
    made, error = np.empty(array.shape, dtype), 0.0
    with np.errstate(over="ignore"):
        for index in np.ndindex(array.shape[:2]):  # plane by plane, so that little more memory is needed
            made[index] = array[index]
            error = max(error, float(np.abs(array[index] - made[index].astype(array.dtype)).max(initial=0)))
    if not math.isfinite(error):
        raise OverflowError(f"up to {np.abs(array).max():,.6g}, beyond the {np.finfo(dtype).max:,.0f} of {made.dtype}")
    return made, error


def checksum(path: Path) -> int:
    """CRC-32 of a file's bytes."""
    total = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            total = zlib.crc32(part, total)
    return total
