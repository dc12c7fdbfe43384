"""NIfTI, through nibabel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from segment.errors import UserError
from segment.io.formats.base import DEFLATE_LIMIT, Doubt, Header, ImageFormat
from segment.io.geometry import Grid, largest_distance

_UNITS = {1: "metres", 3: "micrometres"}


class Nifti(ImageFormat):
    """NIfTI 1 and 2 in one file, plain or gzipped; the fourth axis or the colour components are the channels."""

    suffixes = (".nii.gz", ".nii")

    def read_header(self, path: Path) -> Header:
        """Read shape, type and position; sform takes precedence over qform, as in nibabel."""
        image = nib.load(path, mmap=False)
        if not isinstance(image, nib.Nifti1Image):  # Nifti2Image is a subclass
            raise UserError(f"{path} is not a single-file NIfTI. Convert it to .nii.gz.")
        shape = tuple(int(size) for size in image.shape)
        space, rest = shape[:3], [size for size in shape[3:] if size != 1]
        dtype = image.get_data_dtype()
        colours = len(dtype.names) if dtype.names else 0  # RGB or RGBA
        channelled = not rest or (len(rest) == 1 and rest[0] > 0 and not colours)
        if len(space) < 2 or min(space) < 1 or not channelled or dtype.kind == "c":
            raise UserError(
                f"{path} has shape {shape} of {dtype}: neither a scan nor a scan with channels. Split or convert it."
            )
        proxy: Any = image.dataobj
        return Header(
            grid=Grid(space[::-1], np.asarray(image.affine, dtype=np.float64)),
            channels=min(colours, 3) or (rest[0] if rest else 1),
            dtype=dtype[0] if colours else dtype,
            components=colours or None,
            unpacking=DEFLATE_LIMIT if path.name.lower().endswith(".gz") else 1,
            colour=bool(colours),
            slope=float(proxy.slope),
            intercept=float(proxy.inter),
            oriented=max(int(image.header[code]) for code in ("sform_code", "qform_code")) > 0,
            source=image,
        )

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Read the voxels, scaled."""
        voxels = header.source.dataobj
        if header.colour:
            raw: Any = np.asarray(voxels)
            array = np.stack([raw[name] for name in raw.dtype.names[: header.channels]], axis=-1)
        else:
            array = np.asarray(voxels) if dtype is None else np.asarray(voxels, dtype=dtype)
        return array.reshape((*header.grid.shape[::-1], header.channels), order="F").T

    def write_label(self, path: Path, array: np.ndarray, like: Header) -> None:
        """Write a mask; for a NIfTI scan, keep its qform and sform codes, units and voxel sizes."""
        if isinstance(like.source, nib.Nifti1Pair):
            header = like.source.header.copy()
            header.extensions.clear()  # may hold the patient's data, as may these texts
            for text in {"descrip", "aux_file", "db_name"} & set(header.keys()):
                header[text] = b""
            header["descrip"] = b"segment"
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

    def doubts(self, path: Path, header: Header) -> Iterator[Doubt]:
        """Conflicting or missing positions, ambiguous scaling, and units other than millimetres."""
        image = header.source
        yield from _doubts_of_position(image, header.grid)
        yield from _doubts_of_scaling(path, image)
        units = int(image.header["xyzt_units"]) & 7
        if units in _UNITS:
            what = f"The header gives sizes in {_UNITS[units]}, but they are read as millimetres, as in other programs."
            yield Doubt("header", what, "Write the sizes in millimetres.")


def _doubts_of_position(image: nib.Nifti1Pair, grid: Grid) -> Iterator[Doubt]:
    """Compare sform with qform if both are set; a program may use either.

    It is an error only if they disagree on the direction of an anatomical axis: a shift changes no voxel's neighbours.
    """
    header = image.header
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


def _doubts_of_scaling(path: Path, image: nib.Nifti1Pair) -> Iterator[Doubt]:
    """Check slope and intercept as stored in the file: nibabel clears values that it does not apply."""
    with nib.openers.Opener(str(path)) as stream:
        raw = type(image.header).from_fileobj(stream, check=False)
    slope, inter = float(raw["scl_slope"]), float(raw["scl_inter"])
    if not np.isfinite(slope) or (slope == 0 and inter != 0):
        what = f"The header scales by slope {slope:g} and intercept {inter:g}, which programs interpret differently."
        yield Doubt("scaling", what, "Write slope 1 and intercept 0, or the correct values.")
