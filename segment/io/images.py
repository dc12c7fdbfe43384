"""Image and label files: read with their geometry, written back on the geometry of the scan they belong to.

Arrays are in array order, ``(z, y, x)`` or ``(y, x)``, images with a channel axis first. NIfTI goes through nibabel,
every other format through SimpleITK; both end in nibabel's RAS+ affine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from segment.arrays import smallest_type, whole_numbers
from segment.errors import UserError
from segment.files import written_whole
from segment.io.formats import DEFLATE_LIMIT, SUFFIXES, require_possible_size, suffix, unpacking_factor
from segment.io.geometry import Grid, grid_difference

_NIFTI = (".nii.gz", ".nii")
_FLAT = (".png", ".tif", ".tiff")
# The reader is named by the suffix, so that no other format can hide behind it.
_READERS = {
    ".mha": "MetaImageIO",
    ".nrrd": "NrrdImageIO",
    ".png": "PNGImageIO",
    ".tif": "TIFFImageIO",
    ".tiff": "TIFFImageIO",
}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels and where they lie.

    Attributes:
        array: Images: float32 ``(channels, z, y, x)`` or ``(channels, y, x)``.
            Labels: integers ``(z, y, x)`` or ``(y, x)``.
        grid: The voxel grid of the spatial axes.
    """

    array: np.ndarray
    grid: Grid


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of itself before any voxel is read.

    Attributes:
        grid: The voxel grid of the spatial axes.
        channels: Channels it holds, without alpha.
        source: The nibabel image, or the SimpleITK reader, whose voxels are not read yet.
    """

    grid: Grid
    channels: int
    source: Any


def read_grid(path: Path) -> Grid:
    """Read where a file's voxels lie, from its header alone.

    Args:
        path: An image or label file.

    Returns:
        The grid; PNG and TIFF pixels count as 1 mm, since their resolution tags tell about printing.

    Raises:
        UserError: When the file is missing, damaged or of an unknown format.
    """
    return read_header(Path(path)).grid


def count_channels(path: Path) -> int:
    """Read how many channels a file holds, from its header alone.

    Args:
        path: An image file.

    Returns:
        The number of channels, without a PNG's or TIFF's alpha.

    Raises:
        UserError: When the file is missing, damaged or of an unknown format.
    """
    return read_header(Path(path)).channels


def read_image(paths: Sequence[Path] | Path) -> Image:
    """Read a scan.

    The last axis of a four-dimensional file and the components of a vector or colour file are channels; alpha is left
    out.

    Args:
        paths: One file, or one per channel, stacked in this order.

    Returns:
        float32 ``(channels, z, y, x)`` or ``(channels, y, x)`` in the file's own values, with its grid.

    Raises:
        UserError: When a file is missing, damaged, holds NaN or infinity, or lies on another grid than the first.
    """
    files = [Path(paths)] if isinstance(paths, (str, os.PathLike)) else [Path(path) for path in paths]
    headers = [read_header(path) for path in files]
    for path, header in zip(files[1:], headers[1:], strict=True):
        difference = grid_difference(headers[0].grid, header.grid)
        if difference:
            raise UserError(
                f"{path} is a channel of the same scan as {files[0]} but lies on another grid: {difference}. "
                "Resample one onto the other."
            )
    parts = []
    for path, header in zip(files, headers, strict=True):
        part = read_voxels(path, header, np.float32)
        bad = part.size - int(np.isfinite(part).sum())
        if bad:
            raise UserError(f"{path} holds {bad:,} voxel(s) that are NaN or infinite. Replace them by a number first.")
        parts.append(part)
    array = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Image(array, headers[0].grid)


def read_label(path: Path) -> Image:
    """Read a mask.

    Args:
        path: A single-channel file of whole numbers (also when stored as floating point).

    Returns:
        Integers ``(z, y, x)`` or ``(y, x)`` as they stand in the file, with the grid.

    Raises:
        UserError: When the file is missing, damaged, has several channels or holds fractions.
    """
    path = Path(path)
    header = read_header(path)
    if header.channels != 1:
        raise UserError(
            f"{path} has {header.channels} channels; a mask has one, whose values are the labels. "
            "Save it as a single-channel (grey) file."
        )
    array = read_voxels(path, header, None)[0]
    whole = whole_numbers(array)
    if whole is None:
        raise UserError(f"{path} is not a mask: its values are not whole numbers. Name the file of labels instead.")
    return Image(whole, header.grid)


def write_label(path: Path, array: np.ndarray, like: Path | Grid) -> None:
    """Write a mask on the grid of a scan; the file appears whole or not at all.

    From NIfTI to NIfTI the codes of qform and sform, the units and the voxel sizes of ``like`` are kept.

    Args:
        path: File to write; its suffix is the format. Missing folders are made.
        array: Integers ``(z, y, x)`` or ``(y, x)`` on the own grid of ``like``; stored in the smallest type that holds
            them.
        like: The scan that the mask belongs to: one of its files, or the grid of one that is no file.

    Raises:
        UserError: When ``like`` cannot be read, or the format of ``path`` is unknown or cannot hold the array.
        ValueError: When the array is not of integers or not of the shape of ``like``.
    """
    path = Path(path)
    header = Header(like, 1, None) if isinstance(like, Grid) else read_header(Path(like))
    if array.shape != header.grid.shape:
        raise ValueError(f"mask of shape {array.shape} does not fit {like}, whose shape is {header.grid.shape}")
    if array.dtype.kind not in "iub":
        raise ValueError(f"a mask holds integers, not {array.dtype}")
    end = suffix(path)
    if end not in SUFFIXES:
        raise UserError(f"{path}: cannot write the format {end!r}; the formats are {', '.join(SUFFIXES)}.")
    array = array.astype(smallest_type(array))
    if (end == ".png" and array.ndim == 3) or (end in _FLAT and array.dtype == np.int32):
        raise UserError(f"{path}: {end} cannot hold this mask ({array.ndim}D, {array.dtype}); write .nii.gz instead.")
    with written_whole(path) as aside:
        if end in _NIFTI:
            _write_nifti(aside, array, header)
        else:
            _write_itk(aside, array, header.grid, packed=end != ".png")


def _write_nifti(path: Path, array: np.ndarray, like: Header) -> None:
    if isinstance(like.source, nib.Nifti1Pair):
        header = like.source.header.copy()
        header.extensions.clear()  # may hold the patient's data
        header["cal_min"], header["cal_max"] = 0, 0
        header.set_intent("none")
        header.set_data_dtype(array.dtype)
        kind = nib.Nifti2Image if isinstance(like.source, nib.Nifti2Image) else nib.Nifti1Image
        image = kind(array.T, like.grid.affine, header)
    else:
        image = nib.Nifti1Image(array.T, like.grid.affine)
        image.header.set_xyzt_units("mm")
        image.set_sform(like.grid.affine, code="scanner")
        image.set_qform(like.grid.affine, code="scanner")
    image.header.set_slope_inter(1, 0)
    nib.save(image, path)


def _write_itk(path: Path, array: np.ndarray, grid: Grid, packed: bool) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing[::-1])
    if grid.ndim == 3:
        image.SetOrigin((_LPS_TO_RAS @ grid.affine[:3, 3]).tolist())
        image.SetDirection((_LPS_TO_RAS @ grid.direction).ravel().tolist())
    else:
        image.SetOrigin((_LPS_TO_RAS @ grid.affine[:3, 3])[:2].tolist())
        image.SetDirection((_LPS_TO_RAS @ grid.direction)[:2, :2].ravel().tolist())
    sitk.WriteImage(image, str(path), packed)


def read_header(path: Path) -> Header:
    """Open a file and check what its header says, before any voxel is read.

    Args:
        path: An image or label file.

    Returns:
        Its grid, its number of channels and the way to its voxels.

    Raises:
        UserError: When the file is missing, damaged, of an unknown format, or of an impossible geometry.
    """
    end = suffix(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file. Check the path.")
    if end not in SUFFIXES:
        raise UserError(f"{path} is of a format that is not read here; the formats are {', '.join(SUFFIXES)}.")
    try:
        header = _nifti_header(path) if end in _NIFTI else _itk_header(path, end)
    except UserError:
        raise
    except Exception as error:  # third-party readers raise anything on a file that is not what it claims
        raise _unreadable(path, error) from error
    affine, ndim = header.grid.affine, header.grid.ndim
    columns = affine[:3, :ndim]
    sound = np.isfinite(affine).all() and np.linalg.matrix_rank(columns) == ndim
    if not sound or not all(1e-6 < size < 1e6 for size in header.grid.spacing):
        raise UserError(f"{path} has an impossible geometry in its header: {affine.tolist()}. Mend the header first.")
    return header


def _unreadable(path: Path, error: Exception) -> UserError:
    lines = str(error).strip().splitlines()
    detail = f" ({lines[-1].strip()})" if lines and not isinstance(error, RuntimeError) else ""
    return UserError(f"{path} cannot be read: truncated, damaged or not what its name says{detail}. Copy it again.")


def _nifti_header(path: Path) -> Header:
    image = nib.load(path, mmap=False)
    if not isinstance(image, nib.Nifti1Image):  # Nifti2Image is one too
        raise UserError(f"{path} is not a NIfTI file of one part. Convert it to .nii.gz.")
    shape = tuple(int(size) for size in image.shape)
    space, rest = shape[:3], [size for size in shape[3:] if size != 1]
    dtype = image.get_data_dtype()
    colours = len(dtype.names) if dtype.names else 0
    if len(space) < 2 or min(space) < 1 or len(rest) > 1 or (rest and (colours or rest[0] < 1)) or dtype.kind == "c":
        raise UserError(
            f"{path} has shape {shape} of {dtype}: neither a scan nor a scan with channels. Split or convert it."
        )
    claimed = dtype.itemsize * int(np.prod([int(size) for size in shape], dtype=object))
    factor = DEFLATE_LIMIT if suffix(path) == ".nii.gz" else 1
    require_possible_size(path, claimed, factor)
    channels = min(colours, 3) or (rest[0] if rest else 1)
    return Header(Grid(space[::-1], np.asarray(image.affine, dtype=np.float64)), channels, image)


def _itk_header(path: Path, end: str) -> Header:
    import SimpleITK as sitk

    factor = unpacking_factor(path, end)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_READERS[end])
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size, components = tuple(int(value) for value in reader.GetSize()), reader.GetNumberOfComponents()
    if min(size) < 1:
        raise ValueError("no voxels")
    if not 2 <= len(size) <= 4 or (len(size) == 4 and components > 1):
        raise UserError(
            f"{path} has size {size} with {components} component(s): neither a scan nor a scan with channels."
        )
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    bits = next((int(word.split("-")[0]) for word in kind.split() if "-bit" in word), None)
    if bits is None or "complex" in kind:
        raise UserError(f"{path} holds voxels of the type {kind}, which is not read. Convert it to numbers.")
    require_possible_size(path, bits // 8 * components * int(np.prod(size, dtype=object)), factor)
    dims = len(size)
    affine = np.eye(4)
    if end not in _FLAT:
        n = min(dims, 3)
        direction = np.eye(3)
        direction[:n, :n] = np.array(reader.GetDirection()).reshape(dims, dims)[:n, :n]
        spacing = np.ones(3)
        spacing[:n] = reader.GetSpacing()[:n]
        affine[:3, :3] = _LPS_TO_RAS @ direction * spacing
        affine[:n, 3] = reader.GetOrigin()[:n]
        affine[:3, 3] = _LPS_TO_RAS @ affine[:3, 3]
    channels = size[3] if dims == 4 else components
    if end in _FLAT and channels in (2, 4):
        channels -= 1  # alpha
    return Header(Grid(size[:3][::-1], affine), channels, reader)


def read_voxels(path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
    """Read the voxels.

    Args:
        path: The file.
        header: What `read_header` gives for it.
        dtype: Type to bring them to; None for the file's own (floating point where its header scales them).

    Returns:
        ``(channels, z, y, x)`` or ``(channels, y, x)``, C-contiguous.

    Raises:
        UserError: When the file is truncated or damaged.
    """
    try:
        array = _nifti_voxels(header, dtype) if isinstance(header.source, nib.Nifti1Pair) else _itk_voxels(header)
    except Exception as error:  # third-party readers raise anything on a damaged file
        raise _unreadable(path, error) from error
    if array.shape != (header.channels, *header.grid.shape):
        raise UserError(f"{path} is truncated or damaged: it holds fewer voxels than its header says. Copy it again.")
    if dtype is not None:
        array = array.astype(dtype, copy=False)
    return np.ascontiguousarray(array)


def _nifti_voxels(header: Header, dtype: type[np.floating] | None) -> np.ndarray:
    source = header.source
    colours = source.get_data_dtype().names  # RGB or RGBA
    if colours:
        raw = np.asarray(source.dataobj)
        array = np.stack([raw[name] for name in colours[: header.channels]], axis=-1)
    elif dtype is not None:
        array = np.asarray(source.dataobj, dtype=dtype)
    else:
        array = np.asarray(source.dataobj)
    space = header.grid.shape[::-1]
    return array.reshape((*space, header.channels), order="F").T


def _itk_voxels(header: Header) -> np.ndarray:
    import SimpleITK as sitk

    image = header.source.Execute()
    array = sitk.GetArrayFromImage(image)
    if image.GetDimension() == 4:
        return array
    if image.GetNumberOfComponentsPerPixel() == 1:
        return array[np.newaxis]
    return np.moveaxis(array, -1, 0)[: header.channels]
