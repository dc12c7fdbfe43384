"""DICOM RTSTRUCT: structure sets stored as contours, filled on the grid of their series, and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segment.errors import UserError
from segment.io.dicom.contours import contours_of
from segment.io.dicom.files import damage_as_value_error, read_attributes, read_dataset, text
from segment.io.dicom.series import STRUCTURES, Series
from segment.io.geometry import Grid

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataset import FileDataset

BETWEEN = 0.25  # of the slice distance: how far a contour may lie from its slice
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_COLOURS = ((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180))
_COPIED = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "SpecificCharacterSet",
]


def names_of(path: Path) -> dict[int, str]:
    """Numbers and names of the structures of a structure set.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        with damage_as_value_error():
            rois = read_attributes(path, ["StructureSetROISequence"]).get("StructureSetROISequence") or []
            found = {int(item.ROINumber): text(item, "ROIName") for item in rois}
    except ValueError as error:
        raise UserError(f"{path} is no readable DICOM structure set ({error}). Copy it again.") from error
    return {key: name or f"structure {key}" for key, name in found.items()}


def read_masks(path: Path, grid: Grid) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the mask of every structure.

    A voxel belongs to a structure if its centre lies inside an odd number of the structure's contours of its slice, so
    that an inner contour is a hole. Slices between contours are not filled in; points and open lines have no inside.

    Args:
        path: A structure set.
        grid: Grid of the series, in whose slices the contours lie.

    Yields:
        (name, bool ``(z, y, x)``), in the order of the file.

    Raises:
        ValueError: If contours do not lie in slices of the series, or the file is damaged.
    """
    dataset = read_dataset(path)
    contours: dict[int, list[Dataset]] = {}
    for item in dataset.get("ROIContourSequence") or []:
        contours.setdefault(int(item.ReferencedROINumber), []).extend(item.get("ContourSequence") or [])
    for key, name in names_of(path).items():
        mask = np.zeros(grid.shape, bool)
        for contour in contours.get(key, []):
            if text(contour, "ContourGeometricType") in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                _fill(mask, np.array(contour.ContourData, dtype=float).reshape(-1, 3), grid, name)
        yield name, mask


def _fill(mask: np.ndarray, points: np.ndarray, grid: Grid, name: str) -> None:
    """Flip the voxels whose centre lies inside a contour."""
    from skimage.draw import polygon

    inverse = np.linalg.inv(grid.affine)
    places = (points @ _LPS_TO_RAS) @ inverse[:3, :3].T + inverse[:3, 3]
    plane = round(float(places[:, 2].mean()))
    if np.abs(places[:, 2] - plane).max() > BETWEEN:
        raise ValueError(f"a contour of {name!r} does not lie in a slice of the series")
    if not 0 <= plane < len(mask):
        raise ValueError(f"a contour of {name!r} lies outside of the series")
    rows, columns = polygon(places[:, 1], places[:, 0], mask.shape[1:])
    mask[plane, rows, columns] ^= True


def write_structures(path: Path, mask: np.ndarray, series: Series, labels: Mapping[str, int], algorithm: str) -> None:
    """Write a structure set of a series, which takes its patient, study and references from there.

    Args:
        path: File to write.
        mask: Integers ``(z, y, x)`` on the grid of the series.
        series: The series.
        labels: Name to value, without the background; those that do not occur are written too, without contours.
        algorithm: Name of the algorithm that made the mask.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    source = read_attributes(series.path, _COPIED)
    written = _empty(source, algorithm)
    written.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series, text(source, "StudyInstanceUID"))]
    written.StructureSetROISequence, written.ROIContourSequence, written.RTROIObservationsSequence = [], [], []
    frame = series.frame or str(generate_uid())
    for count, (name, value) in enumerate(labels.items(), start=1):
        roi, contour, observation = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = count, name[:64], frame
        roi.ROIGenerationAlgorithm = "AUTOMATIC"
        contour.ReferencedROINumber, contour.ROIDisplayColor = count, list(_COLOURS[(count - 1) % len(_COLOURS)])
        contour.ContourSequence = list(_contours(mask == value, series))
        observation.ObservationNumber, observation.ReferencedROINumber = count, count
        observation.RTROIInterpretedType, observation.ROIInterpreter = "ORGAN", ""
        written.StructureSetROISequence.append(roi)
        written.ROIContourSequence.append(contour)
        written.RTROIObservationsSequence.append(observation)
    written.save_as(path, enforce_file_format=True)


def _empty(source: Dataset, algorithm: str) -> FileDataset:
    """A structure set of the source's patient and study, without structures."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(STRUCTURES), generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    written = FileDataset("", {}, b"\0" * 128, meta, is_implicit_VR=False, is_little_endian=True)
    for keyword in _COPIED:
        setattr(written, keyword, source.get(keyword, ""))
    if not text(source, "SpecificCharacterSet"):
        written.SpecificCharacterSet = "ISO_IR 192"
    written.SOPClassUID, written.SOPInstanceUID = STRUCTURES, meta.MediaStorageSOPInstanceUID
    written.Modality, written.SeriesInstanceUID, written.SeriesNumber = "RTSTRUCT", generate_uid(), 101
    written.Manufacturer, written.ManufacturerModelName, written.SoftwareVersions = "segment", algorithm[:64], ""
    written.InstanceNumber, written.StructureSetLabel, written.ApprovalStatus = 1, "segment", "UNAPPROVED"
    written.StructureSetDate, written.StructureSetTime, written.OperatorsName = "", "", ""
    return written


def _frame_of_reference(series: Series, study: str) -> Dataset:
    from pydicom.dataset import Dataset

    frame, in_study, in_series = Dataset(), Dataset(), Dataset()
    frame.FrameOfReferenceUID = series.frame
    in_study.ReferencedSOPClassUID, in_study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", study
    in_series.SeriesInstanceUID = series.uid
    in_series.ContourImageSequence = [_reference(series, index) for index in range(len(series.stack.slices))]
    in_study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [in_series], [in_study]
    return frame


def _reference(series: Series, index: int) -> Dataset:
    """The image of a slice."""
    from pydicom.dataset import Dataset

    item, found = series.stack.slices[index], Dataset()
    found.ReferencedSOPClassUID, found.ReferencedSOPInstanceUID = series.kind, item.instance
    if item.frames > 1:
        found.ReferencedFrameNumber = item.frame + 1
    return found


def _contours(mask: np.ndarray, series: Series) -> Iterator[Dataset]:
    from pydicom.dataset import Dataset

    affine = series.grid.affine
    for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        for line in contours_of(mask[index]):
            places = np.stack([line[:, 1], line[:, 0], np.full(len(line), index)], axis=1)
            points = (places @ affine[:3, :3].T + affine[:3, 3]) @ _LPS_TO_RAS
            contour = Dataset()
            contour.ContourImageSequence = [_reference(series, index)]
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.4f}" for value in points.ravel()]
            yield contour
