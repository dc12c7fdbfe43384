"""The planes of DICOM images: one per file, or one per frame of a multi-frame file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segment.io.dicom.files import number, numbers, text, transfer_syntax

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FRAMES = 100_000
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
# What may tell apart images at one position, in the order in which they are tried.
_MARKS = (
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "TriggerTime",
    "FrameReferenceTime",
    "AcquisitionNumber",
    "ImageType",
)


@dataclass(frozen=True)
class Slice:
    """One plane of voxels.

    Attributes:
        path: Its file.
        frame: Its number within the file, from 0.
        frames: Number of frames of the file.
        instance: SOP instance UID of the file; may be empty.
        size: Rows and columns.
        samples: Numbers per voxel; 3 for colour.
        dtype: Type of a stored number.
        bits: Bits of it that are used.
        syntax: UID of the transfer syntax.
        position: Centre of the first voxel in LPS+ mm; None if unknown.
        orientation: Directions of a row and of a column in LPS+, six numbers; None if unknown.
        spacing: Distance in mm of rows and of columns; None if unknown.
        depth: Distance to the next slice, or thickness, in mm, as the file says; used for a single slice alone.
        slope: Factor from stored numbers to values.
        intercept: Offset added afterwards.
        table: Whether a modality LUT converts stored numbers to values instead.
        marks: Values of what may tell apart images at one position: pairs of keyword and text.
    """

    path: Path
    frame: int
    frames: int
    instance: str
    size: tuple[int, int]
    samples: int
    dtype: np.dtype
    bits: int
    syntax: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    depth: float | None
    slope: float
    intercept: float
    table: bool
    marks: tuple[tuple[str, str], ...]


def slices_of(path: Path, dataset: Dataset) -> list[Slice]:
    """The planes of an image file.

    Args:
        path: The file.
        dataset: Its attributes, from `segment.io.dicom.files.read_attributes`.

    Returns:
        One per frame, in the order of the file.

    Raises:
        ValueError: If sizes or types are missing or impossible.
    """
    rows, columns = int(number(dataset, "Rows") or 0), int(number(dataset, "Columns") or 0)
    frames = int(number(dataset, "NumberOfFrames") or 1)
    if rows < 1 or columns < 1 or not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"it declares {frames} frame(s) of {rows} x {columns} voxels")
    shared = _group(dataset.get("SharedFunctionalGroupsSequence"), 0)
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame is not None and len(per_frame) not in (0, frames):
        raise ValueError(f"it declares {frames} frames but describes {len(per_frame)}")
    if frames > 1 and not per_frame:
        raise ValueError(f"its {frames} frames have no positions, so they are not a volume")
    return [
        _slice(path, dataset, [_group(per_frame, frame), shared, dataset], frame, frames) for frame in range(frames)
    ]


def _group(sequence: list[Dataset] | None, index: int) -> Dataset | None:
    return sequence[index] if sequence is not None and len(sequence) > index else None


def _slice(path: Path, dataset: Dataset, places: list[Dataset | None], frame: int, frames: int) -> Slice:
    def macro(sequence: str) -> Dataset:
        """Attributes of a functional group: the frame's, else the shared ones, else those of the file itself."""
        for place in places[:2]:
            inner = _group(place.get(sequence), 0) if place is not None else None
            if inner is not None:
                return inner
        return dataset

    measures, values = macro("PixelMeasuresSequence"), macro("PixelValueTransformationSequence")
    spacing = numbers(measures, "PixelSpacing", 2) or numbers(dataset, "ImagerPixelSpacing", 2)
    slope = number(values, "RescaleSlope")
    content = macro("FrameContentSequence")
    marks = [(keyword, text(place, keyword)) for keyword in _MARKS for place in (content, dataset) if keyword in place]
    return Slice(
        path=path,
        frame=frame,
        frames=frames,
        instance=text(dataset, "SOPInstanceUID"),
        size=(int(dataset.Rows), int(dataset.Columns)),
        samples=int(number(dataset, "SamplesPerPixel") or 1),
        dtype=_dtype(dataset),
        bits=int(number(dataset, "BitsStored") or number(dataset, "BitsAllocated") or 16),
        syntax=transfer_syntax(dataset),
        position=numbers(macro("PlanePositionSequence"), "ImagePositionPatient", 3),
        orientation=numbers(macro("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        spacing=spacing if spacing is not None and min(spacing) > 0 else None,
        depth=number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness"),
        slope=1.0 if slope is None else slope,
        intercept=number(values, "RescaleIntercept") or 0.0,
        table=bool(dataset.get("ModalityLUTSequence")),
        marks=tuple(marks),
    )


def _dtype(dataset: Dataset) -> np.dtype:
    bits = int(number(dataset, "BitsAllocated") or 16)
    if bits not in (1, 8, 16, 32, 64):
        raise ValueError(f"it allocates {bits} bits per voxel")
    if text(dataset, "SOPClassUID") == PARAMETRIC_MAP:
        return np.dtype(np.float64 if bits == 64 else np.float32)
    signed = number(dataset, "PixelRepresentation") == 1
    return np.dtype(f"{'i' if signed else 'u'}{max(bits, 8) // 8}")
