"""Image and label files: read with their geometry, written with the geometry of their scan.

Arrays are in array order, ``(z, y, x)`` or ``(y, x)``, images with a channel axis first; grids are RAS+, nibabel's
convention. The file formats are in `segment.io.formats`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segment.arrays import smallest_type, whole_numbers
from segment.errors import UserError
from segment.files import written_whole
from segment.io.formats import (
    Header,
    ImageFormat,
    format_of,
    is_custom,
    listed,
    require_possible_size,
    suffix,
)
from segment.io.geometry import Grid, from_canonical, grid_difference, same_voxels, to_canonical
from segment.memory import require_memory
from segment.text import one_line

FIX_CHANNELS = "If its colours stand for labels, save it with a palette (indexed colours), else as a single channel."


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels and their grid.

    Attributes:
        array: Images: float32 ``(channels, z, y, x)`` or ``(channels, y, x)``.
            Labels: integers ``(z, y, x)`` or ``(y, x)``.
        grid: The voxel grid of the spatial axes.
    """

    array: np.ndarray
    grid: Grid


def read_grid(path: Path) -> Grid:
    """Read a file's voxel grid from its header only.

    Args:
        path: An image or label file.

    Returns:
        The grid; a pixel counts as 1 mm in formats without a pixel size, and where it is a resolution for printing.

    Raises:
        UserError: If the file is missing, damaged or of an unknown format.
    """
    return read_header(Path(path)).grid


def count_channels(path: Path) -> int:
    """Read a file's number of channels from its header only.

    Args:
        path: An image file.

    Returns:
        The number of channels, without a PNG's or TIFF's alpha.

    Raises:
        UserError: If the file is missing, damaged or of an unknown format.
    """
    return read_header(Path(path)).channels


def read_image(paths: Sequence[Path] | Path) -> Image:
    """Read a scan.

    The last axis of a 4D file and the components of a vector or colour file are channels; alpha is dropped.

    Args:
        paths: One file, or one per channel, stacked in this order.

    Returns:
        float32 ``(channels, z, y, x)`` or ``(channels, y, x)`` as the file's values, with its grid.

    Raises:
        UserError: If a file is missing, damaged, contains NaN or infinity, or has a different grid from the first.
    """
    files = [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    headers = [read_header(path) for path in files]
    for path, header in zip(files[1:], headers[1:], strict=True):
        difference = grid_difference(headers[0].grid, header.grid)
        if difference:
            raise UserError(
                f"{path} is a channel of the same scan as {files[0]} but has a different grid: {difference}. "
                "Resample one onto the other."
            )
    parts = []
    for path, header in zip(files, headers, strict=True):
        part = read_voxels(path, header, np.float32)
        bad = part.size - int(np.isfinite(part).sum())
        if bad:
            raise UserError(f"{path} contains {bad:,} voxel(s) that are NaN or infinite. Replace them first.")
        parts.append(part)
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Image(array, headers[0].grid)


def read_label(path: Path, onto: Grid | None = None) -> Image:
    """Read a mask.

    Args:
        path: A single-channel file of integers (may be stored as floating point); of a file with a palette of colours,
            the indices.
        onto: Grid of its scan: a mask with the same voxels in another order or direction of the axes is brought into
            the scan's, which changes no voxel. Any other grid is left as it is.

    Returns:
        Integers ``(z, y, x)`` or ``(y, x)``, the file's values, with the grid.

    Raises:
        UserError: If the file is missing, damaged, has several channels, is compressed with loss or contains fractions.
    """
    path = Path(path)
    header = read_label_header(path)
    if header.channels != 1:
        raise UserError(
            f"{path} has {header.channels} channels; a mask has one, whose values are the labels. {FIX_CHANNELS}"
        )
    array = read_voxels(path, header, None)[0]
    integers = whole_numbers(array)
    if integers is None:
        raise UserError(f"{path} is not a mask: its values are not integers. Give the label file instead.")
    return reoriented(Image(integers, header.grid), onto)


def reoriented(mask: Image, onto: Grid | None) -> Image:
    """Bring a mask into the order of axes of a grid with the same voxels; see `read_label`."""
    if onto is None or not grid_difference(mask.grid, onto) or not same_voxels(mask.grid, onto):
        return mask
    return Image(from_canonical(to_canonical(mask.array, mask.grid), onto), onto)


def read_label_header(path: Path) -> Header:
    """Read and check a mask's header, without its voxels.

    Args:
        path: A mask.

    Returns:
        As `read_header`, but with the channels and type of the labels rather than of the colours that show them.

    Raises:
        UserError: As `read_header`; or if the numbers cannot be labels.
    """
    header = read_header(path)
    if header.unfit:
        raise UserError(f"{path} cannot be a mask: it {header.unfit}.")
    return header if header.as_mask is None else header.as_mask


def write_label(path: Path, array: np.ndarray, like: Path | Grid) -> None:
    """Write a mask on the grid of a scan; the file is written atomically.

    From NIfTI to NIfTI, the qform and sform codes, units and voxel sizes of ``like`` are kept.

    Args:
        path: File to write; its suffix determines the format. Missing folders are created.
        array: Integers ``(z, y, x)`` or ``(y, x)`` on the grid of ``like``; stored in the smallest type that fits
            them.
        like: The scan that the mask belongs to: one of its files, or its grid if it is not a file.

    Raises:
        UserError: If ``like`` cannot be read, or the format of ``path`` is unknown or cannot store the array.
        ValueError: If the array is not of integers or does not have the shape of ``like``.
    """
    path = Path(path)
    header = Header(like, 1, array.dtype) if isinstance(like, Grid) else read_header(Path(like))
    if array.shape != header.grid.shape:
        raise ValueError(f"mask of shape {array.shape} does not match {like}, whose shape is {header.grid.shape}")
    if array.dtype.kind not in "iub":
        raise ValueError(f"a mask must contain integers, not {array.dtype}")
    end, image_format = suffix(path), format_of(path)
    if image_format is None:
        raise UserError(f"{path}: cannot write the format {end!r}; the formats are {listed()}.")
    array = np.ascontiguousarray(array, smallest_type(array))
    if array.ndim not in image_format.dimensions or array.dtype.type not in image_format.label_types:
        other = image_format.mask_suffix or ".nii.gz"
        raise UserError(f"{path}: {end} cannot store this mask ({array.ndim}D, {array.dtype}); write {other} instead.")
    with written_whole(path) as temporary:
        image_format.write_label(temporary, array, header)


def read_header(path: Path) -> Header:
    """Read and check a file's header, without its voxels.

    Args:
        path: An image or label file.

    Returns:
        Its grid, number of channels and access to its voxels.

    Raises:
        UserError: If the file is missing, damaged, of an unknown format, shorter than declared, or has an impossible
            geometry.
    """
    image_format = format_of(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file. Check the path.")
    if image_format is None:
        hint = " Give the .hdr in its place." if suffix(path) == ".img" else ""
        raise UserError(f"{path} has an unsupported format; the formats are {listed()}.{hint}")
    try:
        header = image_format.read_header(path)
    except UserError:
        raise
    except Exception as error:  # third-party readers raise any exception on a mislabelled file
        raise _unreadable(path, image_format, error) from error
    require_possible_size(path, header)
    affine, ndim = header.grid.affine, header.grid.ndim
    columns = affine[:3, :ndim]
    valid = np.isfinite(affine).all() and np.linalg.matrix_rank(columns) == ndim
    if not valid or not all(1e-9 < size < 1e6 for size in header.grid.spacing):
        raise UserError(f"{path} has an impossible geometry in its header: {affine.tolist()}. Fix the header first.")
    return header


def read_voxels(path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
    """Read the voxels.

    Args:
        path: The file.
        header: The result of `read_header` for it.
        dtype: Type to convert them to; None: the file's own (floating point if its header scales them).

    Returns:
        ``(channels, z, y, x)`` or ``(channels, y, x)``, C-contiguous.

    Raises:
        UserError: If the file is truncated or damaged, or memory does not suffice.
    """
    image_format = format_of(path)
    assert image_format is not None  # read_header found it
    voxels = math.prod(header.grid.shape) * header.channels
    require_memory(
        voxels * (header.dtype.itemsize + (0 if dtype is None else np.dtype(dtype).itemsize)),
        f"{path}: its {voxels:,} voxels",
        "Crop or downsample it, or use a machine with more memory.",
    )
    try:
        array = image_format.read_voxels(path, header, dtype)
    except UserError:
        raise
    except Exception as error:  # third-party readers raise any exception on a damaged file
        raise _unreadable(path, image_format, error) from error
    if array.shape != (header.channels, *header.grid.shape):
        raise UserError(
            f"{path} is truncated or damaged: it contains fewer voxels than its header declares. Copy it again."
        )
    if dtype is not None:
        array = array.astype(dtype, copy=False)
    return np.ascontiguousarray(array)


def _unreadable(path: Path, image_format: ImageFormat, error: Exception) -> UserError:
    lines = str(error).strip().splitlines()
    detail = f" ({lines[-1].strip()})" if lines and not isinstance(error, RuntimeError) else ""
    if is_custom(path):  # a custom format, whose reader may be at fault
        detail = f" ({type(image_format).__name__}: {type(error).__name__}: {one_line(error)})"
    return UserError(
        f"{path} cannot be read: truncated, damaged or not of the format of its suffix{detail}. Copy it again."
    )
