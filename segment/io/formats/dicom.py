"""DICOM series, through pydicom: any file of a series stands for the whole of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.io.dicom.files import is_dicom
from segment.io.dicom.pixels import PLAIN, read_volume
from segment.io.dicom.series import Series, series_of
from segment.io.formats.base import DEFLATE_LIMIT, Doubt, Header, ImageFormat


class Dicom(ImageFormat):
    """Series in files of any name; the slices are those of the same series in the file's folder.

    Voxels are values after the rescaling of each slice, such as Hounsfield units.
    """

    suffixes = (".dcm",)
    mask_suffix = ".nii.gz"
    label_types = ()  # a segmentation needs its series and coded names: `segment.io.dicom.segmentation`

    def recognise(self, path: Path) -> bool:
        """Whether the file begins as DICOM does; most have no suffix."""
        return is_dicom(path)

    def read_header(self, path: Path) -> Header:
        """Read the attributes of every slice; grid and order follow from their positions."""
        series = series_of(path)
        slices = series.stack.slices
        return Header(
            grid=series.grid,
            channels=slices[0].samples,
            dtype=slices[0].dtype,
            unpacking=max(1 if item.syntax in PLAIN else DEFLATE_LIMIT for item in slices),
            colour=slices[0].samples > 1,
            slope=slices[0].slope,
            intercept=slices[0].intercept,
            stored_bytes=sum(file.stat().st_size for file in series.files),
            source=series,
        )

    def read_voxels(self, path: Path, header: Header, dtype: type[np.floating] | None) -> np.ndarray:
        """Decode and rescale every slice."""
        try:
            return read_volume(header.source, dtype)
        except ValueError as error:
            raise UserError(f"{path}: its series cannot be read: {error}. Copy the series again.") from error

    def doubts(self, path: Path, header: Header) -> Iterator[Doubt]:
        """What was left out of the series, or assumed."""
        series: Series = header.source
        for note in series.stack.notes:
            yield Doubt("header", note, "Check whether that is right.")

    def members(self, path: Path) -> tuple[Path, ...]:
        """The files of all slices."""
        return series_of(path).files
