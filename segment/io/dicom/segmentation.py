"""DICOM SEG: segmentations stored as frames, read onto the grid of their series and written with coded names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segment.errors import UserError
from segment.io.dicom.codes import LATERALITIES, Code, code_of
from segment.io.dicom.files import damage_as_value_error, number, read_attributes, read_dataset, text
from segment.io.dicom.pixels import PLAIN, decode
from segment.io.dicom.series import Series
from segment.io.dicom.slices import Slice, slices_of
from segment.io.geometry import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

UNPACKING = 1032  # bytes of voxels per byte of a compressed file
OFF_GRID = 0.05  # of a voxel: how far a frame may lie from the series' voxels
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def names_of(path: Path) -> dict[int, str]:
    """Segment numbers and labels of a segmentation.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        with damage_as_value_error():
            segments = read_attributes(path, ["SegmentSequence"]).get("SegmentSequence") or []
            found = {int(item.SegmentNumber): text(item, "SegmentLabel") for item in segments}
    except ValueError as error:
        raise UserError(f"{path} is no readable DICOM segmentation ({error}). Copy it again.") from error
    return {key: name or f"segment {key}" for key, name in found.items() if name.lower() != "background"}


def read_masks(path: Path, grid: Grid) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the label and the mask of every segment.

    Args:
        path: A binary, fractional or label map segmentation. A fraction of at least one half counts.
        grid: Grid of the series; frames may lie along any of its axes.

    Yields:
        (label, bool ``(z, y, x)``), by segment number.

    Raises:
        ValueError: If a frame does not lie on voxels of the grid, or the file is damaged.
    """
    dataset = read_dataset(path)
    frames = slices_of(path, dataset)
    first = frames[0]
    packed = 8 if first.bits == 1 and first.syntax in PLAIN else 1
    unpacking = packed if first.syntax in PLAIN else UNPACKING
    if len(frames) * first.size[0] * first.size[1] * first.dtype.itemsize > path.stat().st_size * unpacking:
        raise ValueError("it declares more voxels than the file can contain")
    pixels = decode(dataset, first)[..., 0]
    owners = [] if text(dataset, "SOPClassUID") == _LABEL_MAP else [_segment(dataset, frame.frame) for frame in frames]
    half = (number(dataset, "MaximumFractionalValue") or 1) / 2
    for key, name in sorted(names_of(path).items()):
        mask = np.zeros(grid.shape, bool)
        for index, frame in enumerate(frames):
            if not owners:
                _place(mask, pixels[index] == key, frame, grid)
            elif owners[index] == key:
                _place(mask, pixels[index] >= half, frame, grid)
        yield name, mask


def _segment(dataset: Dataset, frame: int) -> int:
    """Number of the segment that a frame belongs to."""
    for place in (dataset.PerFrameFunctionalGroupsSequence[frame], *dataset.SharedFunctionalGroupsSequence):
        if place.get("SegmentIdentificationSequence"):
            return int(place.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    raise ValueError(f"frame {frame + 1} belongs to no segment")


def _place(mask: np.ndarray, plane: np.ndarray, frame: Slice, grid: Grid) -> None:
    """Set the voxels of a frame, whose rows and columns run along any two axes of the grid."""
    rows, columns = np.nonzero(plane)
    if not len(rows):
        return
    if frame.position is None or frame.orientation is None or frame.spacing is None:
        raise ValueError("its frames have no position")
    across, down = np.reshape(frame.orientation, (2, 3)) * np.array([[frame.spacing[1]], [frame.spacing[0]]])
    inverse = np.linalg.inv(grid.affine)
    start = inverse[:3, :3] @ (_LPS_TO_RAS @ frame.position) + inverse[:3, 3]
    steps = inverse[:3, :3] @ _LPS_TO_RAS @ np.stack([across, down], axis=1)
    places = start + np.stack([columns, rows], axis=1) @ steps.T
    voxels = np.round(places).astype(int)
    if np.abs(places - voxels).max() > OFF_GRID:
        raise ValueError("its frames do not lie on the voxels of the series; resample it")
    if voxels.min() < 0 or (voxels >= grid.shape[::-1]).any():
        raise ValueError("it has voxels outside of the series")
    mask[tuple(voxels.T[::-1])] = True


def write_segmentation(
    path: Path,
    mask: np.ndarray,
    series: Series,
    labels: Mapping[str, int],
    codes: Mapping[str, Code],
    algorithm: str,
    version: str,
    label_map: bool = False,
) -> None:
    """Write a DICOM segmentation of a series, which takes its patient, study and references from there.

    Args:
        path: File to write.
        mask: Integers ``(z, y, x)`` on the grid of the series.
        series: The series.
        labels: Name to value, without the background; those that do not occur are written too, empty.
        codes: Name to code; others are looked up in `segment.io.dicom.codes`.
        algorithm: Name of the algorithm that made the mask.
        version: Its version.
        label_map: Whether to write one label map in place of a binary frame for each segment and slice, which fewer
            programs read.

    Raises:
        UserError: If the series lacks what DICOM requires of a source, or highdicom is missing.
    """
    try:
        import highdicom as hd
    except ImportError:
        raise UserError("DICOM SEG needs the package highdicom: install segment[dicom].") from None
    sources, indices = _sources(series)
    numbered = np.zeros((len(mask), *mask.shape[1:]), np.uint8)
    for count, value in enumerate(labels.values(), start=1):
        numbered[mask == value] = count
    kinds = hd.seg.SegmentationTypeValues
    try:
        written = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=numbered[indices],
            segmentation_type=kinds.LABELMAP if label_map else kinds.BINARY,
            segment_descriptions=_descriptions(labels, codes, algorithm, version),
            series_instance_uid=hd.UID(),
            series_number=100,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="segment",
            manufacturer_model_name=algorithm[:64],
            software_versions=version,
            device_serial_number="0",
            omit_empty_frames=bool(numbered.any()),
            series_description="Segmentation",
        )
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise UserError(
            f"{series.path}: its series cannot be the source of a DICOM segmentation ({error}). Write "
            "output_format=nifti instead."
        ) from error
    written.save_as(path, enforce_file_format=True)


def _sources(series: Series) -> tuple[list[Dataset], Sequence[int]]:
    """The files of a series, and the slice that each is."""
    slices = series.stack.slices
    if len({item.path for item in slices}) == 1 and len(slices) > 1:
        return [read_attributes(slices[0].path, None)], np.argsort([item.frame for item in slices]).tolist()
    return [read_attributes(item.path, None) for item in slices], range(len(slices))


def _descriptions(labels: Mapping[str, int], codes: Mapping[str, Code], algorithm: str, version: str) -> list:
    import highdicom as hd
    from pydicom.sr.codedict import codes as terms
    from pydicom.sr.coding import Code as Coded

    made_by = hd.AlgorithmIdentificationSequence(
        name=algorithm[:64], version=version, family=Coded("123109", "DCM", "Artificial Intelligence")
    )
    found = []
    for count, name in enumerate(labels, start=1):
        code = codes.get(name) or code_of(name)
        categories = terms.cid7150
        category = categories.MorphologicallyAbnormalStructure if code.lesion else categories.AnatomicalStructure
        found.append(
            hd.seg.SegmentDescription(
                segment_number=count,
                segment_label=name[:64],
                segmented_property_category=category,
                segmented_property_type=Coded(code.value, code.scheme, code.meaning),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=made_by,
            )
        )
        if code.laterality:
            side, meaning = LATERALITIES[code.laterality]
            kind = found[-1].SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [hd.sr.CodedConcept(side, "SCT", meaning)]
    return found
