"""NIfTI, through nibabel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

from segment.errors import UserError
from segment.io.formats.base import DEFLATE_LIMIT, Doubt, Header, ImageFormat
from segment.io.geometry import Grid, largest_distance
from segment.io.streams import is_gzipped, unpacked, verify_rest

_UNITS = {1: "metres", 3: "micrometres"}
_LONGEST = 540  # bytes of a header, which is NIfTI-2's


class Nifti(ImageFormat):
    """NIfTI 1 and 2 in one file, gzipped or not whatever the name says; the fourth axis or the colours are channels."""

    suffixes = (".nii.gz", ".nii")

    def read_header(self, path: Path) -> Header:
        """Read shape, type and position; sform takes precedence over qform, as in nibabel."""
        with unpacked(path) as stream:
            source = _source(path, stream.read(_LONGEST))
        header = header_of(path, source)
        oriented = max(int(source[code]) for code in ("sform_code", "qform_code")) > 0
        return replace(header, unpacking=DEFLATE_LIMIT if is_gzipped(path) else 1, oriented=oriented)

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels, scaled, and verify gzip's checksum."""
        return voxels_of(path, header, dtype)

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask; for a NIfTI scan, keep its qform and sform codes, units and voxel sizes."""
        if isinstance(like.source, nib.Nifti1Header):
            header = like.source.copy()
            for text in {"descrip", "aux_file", "db_name"} & set(header.keys()):
                header[text] = b""  # may hold the patient's data
            header["descrip"] = b"segment"
            header["cal_min"], header["cal_max"] = 0, 0
            header.set_intent("none")
            header.set_data_dtype(array.dtype)
            kind = nib.Nifti2Image if isinstance(like.source, nib.Nifti2Header) else nib.Nifti1Image
            image = kind(array.T, like.grid.affine, header)
        else:
            image = nib.Nifti1Image(array.T, like.grid.affine)
            image.header.set_xyzt_units("mm")
            image.set_sform(like.grid.affine, code="scanner")
            image.set_qform(like.grid.affine, code="scanner")
        image.header.set_slope_inter(1, 0)
        nib.save(image, path)

    def doubts(self, path: Path, header: Header) -> Iterator[Doubt]:
        """Conflicting or missing positions, ambiguous scaling, and units other than millimetres."""
        yield from _doubts_of_position(header.source, header.grid)
        yield from _doubts_of_scaling(path)
        units = int(header.source["xyzt_units"]) & 7
        if units in _UNITS:
            what = f"The header gives sizes in {_UNITS[units]}, but they are read as millimetres, as in other programs."
            yield Doubt("header", what, "Write the sizes in millimetres.")


def header_of(path: Path, source: Any) -> Header:
    """Convert a header of nibabel's.

    Args:
        path: The file, for errors.
        source: The header.

    Returns:
        The header, with ``source`` as its source; the fourth axis or the components of a colour are the channels.

    Raises:
        UserError: If it is not that of a scan.
    """
    shape, dtype = tuple(int(size) for size in source.get_data_shape()), source.get_data_dtype()
    space, rest = shape[:3], [size for size in shape[3:] if size != 1]
    colours = len(dtype.names) if dtype.names else 0  # RGB or RGBA
    channelled = not rest or (len(rest) == 1 and rest[0] > 0 and not colours)
    if len(space) < 2 or min(space) < 1 or not channelled or dtype.kind == "c":
        raise UserError(
            f"{path} has shape {shape} of {dtype}: neither a scan nor a scan with channels. Split or convert it."
        )
    proxy = ArrayProxy(None, source)
    return Header(
        grid=Grid(space[::-1], np.asarray(source.get_best_affine(), dtype=np.float64)),
        channels=min(colours, 3) or (rest[0] if rest else 1),
        dtype=dtype[0] if colours else dtype,
        components=colours or None,
        colour=bool(colours),
        slope=float(proxy.slope),
        intercept=float(proxy.inter),
        source=source,
    )


def voxels_of(path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
    """Read voxels as a header of nibabel's describes them.

    Args:
        path: The file that holds them, plain or gzipped.
        header: From `header_of`.
        dtype: As for `ImageFormat.read_voxels`.

    Returns:
        (channel, z, y, x) or (channel, y, x), scaled.
    """
    with unpacked(path) as stream:
        voxels = ArrayProxy(stream, header.source, mmap=False)
        if header.colour:
            raw: Any = np.asarray(voxels)
            array = np.stack([raw[name] for name in raw.dtype.names[: header.channels]], axis=-1)
        else:
            array = np.asarray(voxels) if dtype is None else np.asarray(voxels, dtype=dtype)
        verify_rest(stream)
    return array.reshape((*header.grid.shape[::-1], header.channels), order="F").T


def _source(path: Path, head: bytes, check: bool = True) -> Any:
    """Nibabel's header, without the extensions, which may be of any size and hold the patient's data."""
    for kind, magic in ((nib.Nifti1Header, b"n+1"), (nib.Nifti2Header, b"n+2")):
        if kind.may_contain_header(head):
            source = kind(head[: kind.sizeof_hdr], check=check)
            if bytes(source["magic"])[:3] != magic:
                raise UserError(f"{path} is the header of a NIfTI in two files. Name it .hdr, beside its .img.")
            return source
    raise ValueError("it does not begin as a NIfTI file")


def _doubts_of_position(header: nib.Nifti1Header, grid: Grid) -> Iterator[Doubt]:
    """Compare sform with qform if both are set; a program may use either.

    It is an error only if they disagree on the direction of an anatomical axis: a shift changes no voxel's neighbours.
    """
    codes = int(header["sform_code"]), int(header["qform_code"])
    if codes == (0, 0):
        what = "The header has neither sform nor qform, so left and right are unknown."
        yield Doubt("header", what, "Write the scan's position into the header.")
    if min(codes) < 1:
        return
    try:
        other = Grid(grid.shape, np.asarray(header.get_qform(), dtype=np.float64))
        distance = largest_distance(grid, other)
        reoriented = nib.aff2axcodes(other.affine) != nib.aff2axcodes(grid.affine)
    except (nib.spatialimages.HeaderDataError, ValueError, np.linalg.LinAlgError):
        distance, reoriented = float("nan"), True
    if not distance <= 0.1 * min(grid.spacing):
        what = (
            f"The sform and qform of the header are up to {distance:.4g} mm apart; the sform is used."
            if np.isfinite(distance)
            else "The qform of the header is invalid; the sform is used."
        )
        yield Doubt("forms", what, "Find out which is correct and store it as both.", error=reoriented)


def _doubts_of_scaling(path: Path) -> Iterator[Doubt]:
    """Check slope and intercept as stored in the file: nibabel clears values that it does not apply."""
    with unpacked(path) as stream:
        raw = _source(path, stream.read(_LONGEST), check=False)
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if not np.isfinite(slope) or (slope == 0 and inter != 0):
        what = f"The header scales by slope {slope:g} and intercept {inter:g}, which programs interpret differently."
        yield Doubt("scaling", what, "Write slope 1 and intercept 0, or the correct values.")
