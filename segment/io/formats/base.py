"""What a format of image files can do, and what a file says of itself before any voxel is read."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segment.errors import UserError
from segment.io.geometry import Grid

# Deflate packs at most 1032 bytes into one (zlib's technical notes); TIFF's LZW a little more.
DEFLATE_LIMIT = 1032
LZW_LIMIT = 1400


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of itself before any voxel is read.

    Attributes:
        grid: The voxel grid of the spatial axes.
        channels: Channels that are read, without alpha.
        dtype: Type of one stored number.
        components: Numbers stored for each voxel, alpha too; None: as many as channels.
        unpacking: Bytes of voxels that one byte of the file holds at most: 1 for raw data, `DEFLATE_LIMIT` for gzip.
        colour: Whether the channels are the components of a colour or a vector, rather than a fourth axis.
        slope: What stored numbers are multiplied by.
        intercept: What is added to them then.
        source: Whatever the format needs to find the voxels; no other part of the program looks at it.
    """

    grid: Grid
    channels: int
    dtype: np.dtype
    components: int | None = None
    unpacking: int = 1
    colour: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    source: Any = None

    @property
    def claimed(self) -> int:
        """Bytes of voxels that the header promises."""
        components = self.channels if self.components is None else self.components
        return self.dtype.itemsize * components * math.prod(self.grid.shape)


@dataclass(frozen=True)
class Doubt:
    """Something doubtful about a header that can be read.

    Attributes:
        kind: One of `segment.data.problems.KINDS`, such as ``header``.
        what: What is doubtful, a full sentence.
        remedy: What to do about it, a full sentence.
        error: Whether it would make a training's numbers wrong; False: worth a look.
    """

    kind: str
    what: str
    remedy: str
    error: bool = False


class ImageFormat(Protocol):
    """A format of image files; a class that names it as its base need not repeat what has a default here.

    Its methods may raise whatever they like on a file that is not what its name says: whoever calls them tells the user
    that the file cannot be read. A `UserError` reaches the user as it stands.

    Attributes:
        suffixes: Endings of the file names, lower case with the dot, such as ``(".tif", ".tiff")``.
        dimensions: Spatial axes that its files can have: 2, 3 or both.
        label_types: Types in which it can store a mask, of uint8, uint16 and int32.
    """

    suffixes: tuple[str, ...]
    dimensions: tuple[int, ...] = (2, 3)
    label_types: tuple[type[np.integer], ...] = (np.uint8, np.uint16, np.int32)

    @abstractmethod
    def read_header(self, path: Path) -> Header:
        """Read what a file says of itself; the file is not to be trusted.

        Nothing in it may name another file that is read, and no voxel is read yet: whether the file can hold what it
        promises (`Header.claimed`) is looked at first, by whoever calls this.

        Args:
            path: A file that exists and has one of the suffixes.
        """
        ...

    @abstractmethod
    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels.

        Args:
            path: The file.
            header: What `read_header` gave for it.
            dtype: Type they will be brought to, for formats that can read into it at once; None for the file's own.

        Returns:
            (channel, z, y, x) or (channel, y, x), in the file's own values, scaled where the header says so.
        """
        ...

    @abstractmethod
    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask.

        Args:
            path: File to write; it takes its name when it is whole.
            array: (z, y, x) or (y, x) of one of `label_types`, C-contiguous, with as many axes as `dimensions` allow.
            like: Header of the scan that it belongs to, of any format; the mask lies on ``like.grid``.
        """
        ...

    def doubts(self, path: Path, header: Header) -> Iterable[Doubt]:
        """What is doubtful about a header that this format alone knows of; nothing by default.

        Args:
            path: The file.
            header: What `read_header` gave for it.
        """
        return ()


def require_possible_size(path: Path, header: Header) -> None:
    """Refuse a header that is no scan's, or that promises more voxels than its file can hold.

    Args:
        path: The image file.
        header: What it says.

    Raises:
        UserError: When a size is not a positive integer, the voxels are no numbers, or the file is too short.
    """
    shape, size = header.grid.shape, path.stat().st_size
    whole = all(isinstance(count, int) and count >= 1 for count in (*shape, header.channels))
    if not whole or len(shape) not in (2, 3):
        raise UserError(f"{path} claims the shape {shape} with {header.channels} channels, which no scan has. Mend it.")
    if header.dtype.kind not in "biuf":
        raise UserError(f"{path} holds voxels of the type {header.dtype}, which is not read. Convert it to numbers.")
    if header.claimed > size * header.unpacking:
        raise UserError(
            f"{path} is truncated or damaged: its header promises {header.claimed:,} bytes of voxels and the file of "
            f"{size:,} bytes cannot hold them. Copy it again from its source."
        )
