"""DICOM series made in memory, of unequal spacing; names and instance numbers say nothing about the order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

SHAPE, SPACING, ORIGIN = (5, 6, 7), (2.5, 0.8, 0.7), (-12.0, 30.0, 45.0)  # (z, y, x); mm; LPS+ mm
AXIAL = (1.0, 0, 0, 0, 1.0, 0)
EIGHT = (  # directions of rows and columns: axial, its flips, coronal, sagittal, oblique
    AXIAL,
    (-1, 0, 0, 0, 1, 0),
    (1, 0, 0, 0, -1, 0),
    (-1, 0, 0, 0, -1, 0),
    (1, 0, 0, 0, 0, -1),
    (0, 1, 0, 0, 0, -1),
    (0, -1, 0, 0, 0, 1),
    (0.8, 0.6, 0, -0.36, 0.48, 0.8),
)


def voxels(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Stored numbers (z, y, x) int16 in which every voxel differs."""
    return np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape).astype(np.int16)


def make_series(
    folder: Path,
    array: np.ndarray | None = None,
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, ...] = SPACING,
    origin: Sequence[float] = ORIGIN,
    change: Callable[[int, Dataset], Any] = lambda index, dataset: None,
    big_endian: bool = False,
    seed: int = 0,
    patient: str = "P1",
    prefix: str = "IM",
    uid: str | None = None,
) -> list[Path]:
    """Write one file for each slice, named and numbered in random order.

    Args:
        folder: Where to write them.
        array: Stored numbers (z, y, x); None: `voxels`.
        orientation: Directions of rows and columns in LPS+.
        spacing: mm along z, y, x.
        origin: Position of the first voxel in LPS+.
        change: Changes the data set of each slice, given its index along the normal; returning False leaves it out.
        big_endian: Whether to write big endian.
        seed: Of names and voxels.
        patient: Patient ID.
        prefix: Begins the names.
        uid: Series instance UID.

    Returns:
        The files, in the order of the slices.
    """
    array = voxels(seed=seed) if array is None else array
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names, numbers = rng.permutation(len(array)), rng.permutation(len(array))
    common = {"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()}
    common["SeriesInstanceUID"] = uid or generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    files = []
    for index, plane in enumerate(array):
        dataset = _slice(plane, orientation, spacing, common | {"PatientID": patient}, big_endian)
        place = np.array(origin) + index * spacing[0] * normal
        dataset.ImagePositionPatient = [f"{value:.10g}" for value in place]
        dataset.InstanceNumber = int(numbers[index])
        path = folder / f"{prefix}{names[index]:04d}"
        if change(index, dataset) is False:
            continue
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or "1.2.3"
        dataset.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


def _slice(
    plane: np.ndarray,
    orientation: Sequence[float],
    spacing: tuple[float, ...],
    common: dict[str, str],
    big_endian: bool,
) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRBigEndian if big_endian else ExplicitVRLittleEndian
    dataset = FileDataset("", {}, b"\0" * 128, meta, is_implicit_VR=False, is_little_endian=not big_endian)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
    dataset.Modality, dataset.SeriesNumber, dataset.ImageType = "CT", 3, ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "Doe^Jane", "19700101", "F"
    dataset.StudyID, dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = "1", "20200101", "120000", ""
    dataset.ReferringPhysicianName, dataset.Manufacturer = "", "made"
    for name, value in common.items():
        setattr(dataset, name, value)
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelSpacing = [spacing[1], spacing[2]]
    dataset.SliceThickness = 99  # not the distance of the slices, as where they overlap
    dataset.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = plane.astype(">i2" if big_endian else "<i2").tobytes()
    return dataset


def make_enhanced(path: Path, array: np.ndarray, orientation: Sequence[float], slopes: Sequence[float]) -> None:
    """Write one multi-frame file, frames in random order, each with its own slope."""
    files = make_series(path.parent / "single", array, orientation)
    frames = [dcmread(file) for file in files]
    order = np.random.default_rng(0).permutation(len(frames))
    dataset = frames[0]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    shared = Dataset()
    shared.PlaneOrientationSequence = [_only(dataset, "ImageOrientationPatient")]
    shared.PixelMeasuresSequence = [_only(dataset, "PixelSpacing", "SliceThickness")]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for index in order:
        group, values = Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slopes[index], 0, "US"
        group.PlanePositionSequence = [_only(frames[index], "ImagePositionPatient")]
        group.PixelValueTransformationSequence = [values]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = b"".join(frames[index].PixelData for index in order)
    for keyword in ("ImageOrientationPatient", "PixelSpacing", "ImagePositionPatient", "RescaleSlope"):
        del dataset[keyword]
    for file in files:
        file.unlink()
    dataset.save_as(path)


def _only(dataset: Dataset, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        setattr(item, keyword, dataset[keyword].value)
    return item
