"""Shared by the formats that SimpleITK reads and writes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.io.formats.base import DEFLATE_LIMIT, Header, ImageFormat
from segment.io.geometry import Grid
from segment.io.itk_writer import write_itk
from segment.io.streams import verify_deflated

HEADER_BYTES = 1 << 20  # of a text header; one with a hundred named segments has a tenth of it
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Stored:
    """Where a file's voxels are.

    Attributes:
        file: The file itself, or another one.
        start: First byte of the voxels in it.
        raw: Whether they are stored as they are.
        deflated: Whether they are compressed by zlib or gzip.
    """

    file: Path
    start: int
    raw: bool
    deflated: bool


class ItkFormat(ImageFormat):
    """A format that SimpleITK reads and writes.

    Attributes:
        reader: ITK's name of its reader, which is enforced, so that a file cannot have another format than its suffix.
    """

    reader: str

    def stored(self, path: Path) -> Stored:
        """Find the voxels, and check that ITK would read them there and nowhere else.

        Args:
            path: The file.

        Raises:
            UserError: If it is damaged, or stores its voxels elsewhere.
        """
        raise NotImplementedError

    def members(self, path: Path) -> tuple[Path, ...]:
        """The file, and the one that holds its voxels."""
        return tuple(dict.fromkeys((path, self.stored(path).file)))

    def read_header(self, path: Path) -> Header:
        """Read shape, type and position."""
        import SimpleITK as sitk

        stored_in = self.stored(path)
        reader = sitk.ImageFileReader()
        reader.SetImageIO(self.reader)
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size, components = tuple(int(value) for value in reader.GetSize()), reader.GetNumberOfComponents()
        if min(size) < 1:
            raise ValueError("no voxels")
        if not 2 <= len(size) <= 4 or (len(size) == 4 and components > 1):
            raise UserError(
                f"{path} has size {size} with {components} component(s): neither a scan nor a scan with channels."
            )
        stored = size[3] if len(size) == 4 else components
        return Header(
            grid=Grid(size[:3][::-1], _affine(reader)),
            channels=stored,
            dtype=_number(sitk.GetPixelIDValueAsString(reader.GetPixelID()), path),
            unpacking=1 if stored_in.raw else DEFLATE_LIMIT,
            stored_bytes=max(0, stored_in.file.stat().st_size - stored_in.start),
            colour=len(size) < 4 and components > 1,
            source=reader,
        )

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels."""
        import SimpleITK as sitk

        stored = self.stored(path)
        if stored.deflated:
            verify_deflated(stored.file, stored.start)
        array = sitk.GetArrayFromImage(header.source.Execute())
        if header.colour:
            return np.moveaxis(array, -1, 0)
        return array if array.ndim == 4 else array[np.newaxis]

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask with spacing, origin and direction."""
        import SimpleITK as sitk

        grid, axes = like.grid, like.grid.ndim
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(grid.spacing[::-1])
        image.SetOrigin((_LPS_TO_RAS @ grid.affine[:3, 3])[:axes].tolist())
        image.SetDirection((_LPS_TO_RAS @ grid.direction)[:axes, :axes].ravel().tolist())
        write_itk(image, path)


def _affine(reader: Any) -> np.ndarray:
    """From voxel index (x, y, z, 1) to RAS+ millimetres; ITK's are LPS+."""
    dims = reader.GetDimension()
    n = min(dims, 3)
    affine, direction, spacing = np.eye(4), np.eye(3), np.ones(3)
    direction[:n, :n] = np.array(reader.GetDirection()).reshape(dims, dims)[:n, :n]
    spacing[:n] = reader.GetSpacing()[:n]
    affine[:3, :3] = _LPS_TO_RAS @ direction * spacing
    affine[:n, 3] = reader.GetOrigin()[:n]
    affine[:3, 3] = _LPS_TO_RAS @ affine[:3, 3]
    return affine


def _number(kind: str, path: Path) -> np.dtype:
    """Convert ITK's name of a type, such as ``vector of 8-bit unsigned integer``, to a dtype."""
    found = re.search(r"(\d+)-bit (unsigned integer|signed integer|float)", kind)
    if found is None or "complex" in kind:
        raise UserError(f"{path} has voxels of the unsupported type {kind}. Convert it to numbers.")
    return np.dtype({"u": "uint", "s": "int", "f": "float"}[found[2][0]] + found[1])


def detached(path: Path, suffix: str) -> UserError:
    """Error for a header that refers to voxels in another file: it could name any file on this machine."""
    return UserError(
        f"{path} stores its voxels in another file, which is not supported. Save it as a single {suffix} file."
    )


def incomplete(path: Path) -> UserError:
    """Error for a header that does not end."""
    return UserError(f"{path} is truncated or damaged: its header is incomplete. Copy it again.")
