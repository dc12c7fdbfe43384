"""DICOM files: which files of a folder are DICOM, and their attributes without the pixels."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segment.errors import UserError
from segment.text import one_line

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FILES = 200_000  # in a folder with its subfolders; a study of a whole body has a few thousand
PREAMBLE = 128
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")  # of a file without preamble: little and big endian
_DEFLATED = "1.2.840.10008.1.2.1.99"
_SUFFIXES = (".dcm", ".ima", ".dicom")

ATTRIBUTES = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "PatientID",
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SpacingBetweenSlices",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "InstanceNumber",
    "AcquisitionNumber",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "DiffusionBValue",
    "FrameReferenceTime",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence",
]


def require_pydicom() -> None:
    """Raise a `UserError` that says how to install pydicom if it is missing."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise UserError("DICOM needs the package pydicom: install segment[dicom].") from None


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, whatever its name.

    Args:
        path: A file; need not exist.

    Returns:
        True if it has DICOM's preamble, or if it is called ``.dcm`` or ``.ima`` and begins as a data set without one.
    """
    try:
        if not path.is_file():  # also a pipe, which would wait forever
            return False
        with path.open("rb") as stream:
            head = stream.read(PREAMBLE + 4)
    except OSError:
        return False
    if head[PREAMBLE:] == b"DICM":
        return True
    return path.suffix.lower() in _SUFFIXES and head[:2] in _FIRST_GROUPS


def walk(root: Path) -> Iterator[Path]:
    """Yield the regular files of a folder and its subfolders, by name; links to folders and hidden names are skipped.

    Args:
        root: A folder.

    Raises:
        UserError: If there are more than `MAX_FILES`.
    """
    count = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                count += 1
                if count > MAX_FILES:
                    raise UserError(f"{root}: holds more than {MAX_FILES:,} files. Give the folder of fewer scans.")
                yield Path(folder) / name


def read_attributes(path: Path, tags: list[str] | None = ATTRIBUTES) -> Dataset:
    """Read a DICOM file's attributes up to its pixels.

    Args:
        path: A DICOM file; untrusted.
        tags: Keywords of the attributes to read; None reads all.

    Returns:
        The attributes; values are converted when they are accessed.

    Raises:
        ValueError: If the file is damaged or its data set is deflated, which could unpack to any size.
    """
    return _read(path, stop_before_pixels=True, specific_tags=tags)


def read_dataset(path: Path) -> Dataset:
    """Read a whole DICOM file, see `read_attributes`; pixels are not decoded."""
    return _read(path)


def _read(path: Path, **options: Any) -> Dataset:
    import pydicom
    from pydicom.filereader import read_file_meta_info

    # It warns of every value that deviates from the standard, quoting it, which may be a patient's name.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
    with damage_as_value_error(), pydicom.config.disable_value_validation():
        with path.open("rb") as stream:
            plain = stream.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
        if plain and str(read_file_meta_info(path).get("TransferSyntaxUID", "")) == _DEFLATED:
            raise ValueError("its data set is deflated, which is not read; convert it with dcmconv")
        return pydicom.dcmread(path, force=not plain, **options)


@contextlib.contextmanager
def damage_as_value_error() -> Iterator[None]:
    """Turn what pydicom raises on a damaged file, which may be any exception, whenever a value is first used."""
    try:
        yield
    except (ValueError, UserError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"it is damaged ({type(error).__name__}: {one_line(error)[:200]})") from error


def transfer_syntax(dataset: Dataset) -> str:
    """UID of a file's transfer syntax; without file meta, that of how pydicom read it."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    meta = getattr(dataset, "file_meta", None)
    named = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if named:
        return named
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The numbers of an attribute; None if it is missing, empty, of another length or not finite."""
    value = dataset.get(keyword)
    if value is None:
        return None
    items = list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    try:
        found = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """The single number of an attribute; None if there is none."""
    found = numbers(dataset, keyword, 1)
    return None if found is None else found[0]


def text(dataset: Dataset, keyword: str) -> str:
    """An attribute as text without blanks at its ends; empty if it is missing."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")
