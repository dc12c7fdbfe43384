"""The interface of an image file format, and a file's header as read before its voxels."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segment.errors import UserError
from segment.io.geometry import Grid

# Deflate compresses at most 1032:1 (zlib's technical notes); TIFF's LZW slightly more.
DEFLATE_LIMIT = 1032
LZW_LIMIT = 1400
JPEG_LIMIT = 4096  # a blank baseline image is compressed 512:1, a progressive one further


@dataclass(frozen=True, eq=False)
class Header:
    """Information about a file that is read before its voxels.

    Attributes:
        grid: The voxel grid of the spatial axes.
        channels: Number of channels, without alpha.
        dtype: Type of a stored number.
        components: Numbers stored per voxel, including alpha; None: as many as channels.
        unpacking: Maximum compression ratio, bytes of voxels per byte of the file: 1 for raw data, `DEFLATE_LIMIT` for
            gzip.
        colour: Whether the channels are the components of a colour or a vector, rather than a fourth axis.
        slope: Factor by which stored numbers are multiplied.
        intercept: Offset added afterwards.
        oriented: Whether the file says how a 3D scan lies in the body, so that left and right are known.
        stored_bytes: Bytes that hold the voxels, without the header; None: those of the file itself.
        as_mask: Header with which the file is read as a mask, where that differs: a palette's indices in place of its
            colours, or the layers of a segmentation as one mask.
        label_names: What the values of a mask stand for, where the file says so; without the background.
        unfit: Why the numbers cannot be labels, as the end of "it ..."; empty if they can.
        source: Whatever the format needs to find the voxels; not used by other parts of the program.
    """

    grid: Grid
    channels: int
    dtype: np.dtype
    components: int | None = None
    unpacking: int = 1
    colour: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    oriented: bool = True
    stored_bytes: int | None = None
    as_mask: Header | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    unfit: str = ""
    source: Any = None

    @property
    def declared_bytes(self) -> int:
        """Bytes of voxels that the header declares."""
        components = self.channels if self.components is None else self.components
        return self.dtype.itemsize * components * math.prod(self.grid.shape)


@dataclass(frozen=True)
class Doubt:
    """Something suspicious about a readable header.

    Attributes:
        kind: One of `segment.data.problems.KINDS`, such as ``header``.
        what: What is suspicious, as a full sentence.
        remedy: What to do about it, as a full sentence.
        error: Whether it would make results wrong; False: worth checking.
    """

    kind: str
    what: str
    remedy: str
    error: bool = False


class ImageFormat(Protocol):
    """Interface of an image file format; subclasses inherit the defaults defined here.

    Its methods may raise any exception on a file that is not of this format; the caller then reports that the file
    cannot be read. A `UserError` is shown to the user unchanged.

    Attributes:
        suffixes: Endings of the file names, lower case with the dot, such as ``(".tif", ".tiff")``.
        dimensions: Supported numbers of spatial axes: 2, 3 or both.
        label_types: Types in which it can store a mask, out of uint8, uint16 and int32; empty if it stores none.
        mask_suffix: Suffix of the masks of its scans; empty: that of the scan.
        revision: Of a built-in format, changed when files are read otherwise than before, so that cached results on
            them are computed anew.
    """

    suffixes: tuple[str, ...]
    mask_suffix: str = ""
    revision: str = ""
    dimensions: tuple[int, ...] = (2, 3)
    label_types: tuple[type[np.integer], ...] = (np.uint8, np.uint16, np.int32)

    @abstractmethod
    def read_header(self, path: Path) -> Header:
        """Read a file's header; the file is untrusted.

        The header must not make it read another file. No voxels are read: the caller first checks whether the file can
        contain as many as it declares (`Header.declared_bytes`).

        Args:
            path: A file that exists and has one of the suffixes.
        """
        ...

    @abstractmethod
    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels.

        Args:
            path: The file.
            header: The result of `read_header` for it.
            dtype: Type to which they will be converted, for formats that can read it directly; None: the file's own.

        Returns:
            (channel, z, y, x) or (channel, y, x), as the file's values, scaled if the header says so.
        """
        ...

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask; for formats with `label_types`.

        Args:
            path: File to write; a temporary file that the caller renames when complete.
            array: (z, y, x) or (y, x) of one of `label_types`, C-contiguous, with a number of axes in `dimensions`.
            like: Header of the scan that it belongs to, of any format; the mask is on ``like.grid``.
        """
        raise TypeError(f"{type(self).__name__} stores no masks")

    def members(self, path: Path) -> tuple[Path, ...]:
        """The files that a scan consists of; by default, one file is one scan.

        Args:
            path: The file that stands for the scan.
        """
        return (path,)

    def recognise(self, path: Path) -> bool:
        """Whether a file whose name has no known suffix is of this format, by its first bytes; False by default.

        Args:
            path: A file; need not exist.
        """
        return False

    def doubts(self, path: Path, header: Header) -> Iterable[Doubt]:
        """Format-specific doubts about a header; none by default.

        Args:
            path: The file.
            header: The result of `read_header` for it.
        """
        return ()


def require_possible_size(path: Path, header: Header) -> None:
    """Refuse a header that is not a scan's, or that declares more voxels than its file can contain.

    Args:
        path: The image file.
        header: Its header.

    Raises:
        UserError: If a size is not a positive integer, the voxels are not numbers, or the file is too short.
    """
    shape, size = header.grid.shape, header.stored_bytes
    if size is None:
        size = path.stat().st_size
    positive = all(isinstance(count, int) and count >= 1 for count in (*shape, header.channels))
    if not positive or len(shape) not in (2, 3):
        raise UserError(
            f"{path} declares the shape {shape} with {header.channels} channels, impossible for a scan. Fix it."
        )
    if header.dtype.kind not in "biuf":
        raise UserError(f"{path} has voxels of the unsupported type {header.dtype}. Convert it to numbers.")
    if header.declared_bytes > size * header.unpacking:
        raise UserError(
            f"{path} is truncated or damaged: its header declares {header.declared_bytes:,} bytes of voxels, but the "
            f"file of {size:,} bytes cannot contain them. Copy it again from its source."
        )
