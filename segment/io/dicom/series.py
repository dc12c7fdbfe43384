"""The series of a folder, by UID among mixed files, and what in it is no scan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from segment.errors import UserError
from segment.io.dicom.files import damage_as_value_error, is_dicom, number, read_attributes, require_pydicom, text, walk
from segment.io.dicom.slices import Slice, slices_of
from segment.io.dicom.stack import Stack, stacks_of
from segment.io.geometry import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # binary or fractional, label map
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
_ABOUT = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "Modality",
    "SeriesNumber",
    "SOPClassUID",
    "SeriesDescription",
)
_SLICED = ("CT", "MR", "PT", "NM")
_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True, eq=False)
class Series:
    """A volume of one series.

    Attributes:
        stack: Its slices in order, with their grid.
        uid: Series instance UID; empty if the files lack it.
        study: Study instance UID.
        frame: Frame of reference UID.
        patient: Patient ID; never shown, it only tells which series are of one patient.
        modality: Such as ``CT``.
        number: Series number, as text; may be empty.
        kind: SOP class UID of its files.
        description: Series description, such as ``AX T2 FLAIR``; may be empty.
    """

    stack: Stack
    uid: str
    study: str
    frame: str
    patient: str
    modality: str
    number: str
    kind: str
    description: str = ""

    @property
    def path(self) -> Path:
        """The file of the first slice, which stands for the series."""
        return self.stack.slices[0].path

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of its slices, each once."""
        return tuple(dict.fromkeys(item.path for item in self.stack.slices))

    @property
    def grid(self) -> Grid:
        """The voxel grid.

        Raises:
            UserError: If the slices are no volume.
        """
        if self.stack.grid is None:
            raise UserError(f"{self.path}: its series is no volume: {self.stack.fault}.")
        return self.stack.grid


@dataclass(frozen=True)
class Annotation:
    """A segmentation or a structure set.

    Attributes:
        path: The file.
        structures: Whether it is a structure set (RTSTRUCT).
        series: UIDs of the series that it refers to.
        frame: Frame of reference UID.
    """

    path: Path
    structures: bool
    series: tuple[str, ...]
    frame: str


@dataclass(frozen=True)
class LeftOut:
    """Files that are no scan.

    Attributes:
        files: The files.
        reason: What they are, to follow "it is" or "they are".
    """

    files: tuple[Path, ...]
    reason: str


@dataclass(frozen=True, eq=False)
class Contents:
    """What DICOM files contain.

    Attributes:
        series: The volumes, those that cannot be read as one included.
        annotations: Segmentations and structure sets.
        left_out: Everything else.
    """

    series: tuple[Series, ...]
    annotations: tuple[Annotation, ...]
    left_out: tuple[LeftOut, ...]


@dataclass
class _Gathered:
    """What is collected from the files of a folder."""

    slices: dict[tuple, list[Slice]] = field(default_factory=dict)
    about: dict[tuple, list[str]] = field(default_factory=dict)  # `_ABOUT` of the first file
    annotations: list[Annotation] = field(default_factory=list)
    others: dict[str, list[Path]] = field(default_factory=dict)


def contents(root: Path) -> Contents:
    """Find the DICOM series and annotations of a folder and its subfolders.

    A folder needs no DICOMDIR, and file names do not matter. Series are found within one folder; those whose slices
    are spread over several are left out, since half a series would look like a whole one.

    Args:
        root: A folder.

    Raises:
        UserError: If pydicom is missing or there are too many files.
    """
    folders = dict.fromkeys(path.parent for path in walk(root))
    found = [contents_of_folder(folder) for folder in folders]
    spread = _spread([series for part in found for series in part.series])
    left = [LeftOut(files, "part of a series that is spread over folders: put its files into one") for files in spread]
    taken = {path for files in spread for path in files}
    return Contents(
        tuple(series for part in found for series in part.series if series.path not in taken),
        tuple(annotation for part in found for annotation in part.annotations),
        tuple(item for part in found for item in part.left_out) + tuple(left),
    )


def _spread(series: Sequence[Series]) -> list[tuple[Path, ...]]:
    """Files of the series that lie in several folders with different slices."""
    by_uid: dict[str, dict[Path, set[str]]] = {}
    files: dict[str, list[Path]] = {}
    for item in series:
        if item.uid:
            places = by_uid.setdefault(item.uid, {}).setdefault(item.path.parent, set())
            places.update(part.instance for part in item.stack.slices)
            files.setdefault(item.uid, []).extend(item.files)
    return [
        tuple(files[uid])
        for uid, places in by_uid.items()
        if len(places) > 1 and len({frozenset(instances) for instances in places.values()}) > 1
    ]


def contents_of_folder(folder: Path) -> Contents:
    """Find the DICOM series and annotations among the files of one folder.

    Args:
        folder: A folder; its subfolders are not read.

    Raises:
        UserError: If pydicom is missing.
    """
    with os.scandir(folder) as entries:
        files = [
            (entry.path, entry.stat().st_size, entry.stat().st_mtime_ns)
            for entry in entries
            if entry.is_file() and not entry.name.startswith(".")
        ]
    return _contents(tuple(sorted(files)))


@lru_cache(maxsize=64)
def _contents(files: tuple[tuple[str, int, int], ...]) -> Contents:
    """The contents of files, given with size and time of change, so that they are read again once they change."""
    found = _Gathered()
    for name, _, _ in files:
        path = Path(name)
        if not is_dicom(path):
            continue
        require_pydicom()
        try:
            with damage_as_value_error():
                _gather(path, found)
        except ValueError as error:
            found.others.setdefault(f"unreadable: {error}", []).append(path)
    series = []
    for key, slices in found.slices.items():
        series += [Series(stack, *found.about[key]) for stack in stacks_of(slices)]
    left = [LeftOut(tuple(paths), reason) for reason, paths in found.others.items()]
    return Contents(tuple(sorted(series, key=_order)), tuple(found.annotations), tuple(left))


def _gather(path: Path, found: _Gathered) -> None:
    dataset = read_attributes(path)
    kind = text(dataset, "SOPClassUID")
    if kind in SEGMENTATION or kind == STRUCTURES:
        found.annotations.append(_annotation(path, dataset, kind == STRUCTURES))
        return
    reason = _no_scan(dataset, kind)
    if reason:
        found.others.setdefault(reason, []).append(path)
        return
    slices = slices_of(path, dataset)
    # Files without a series UID are of one series if they agree in everything else. Projections are no slices.
    flat = slices[0].position is None and text(dataset, "Modality") not in _SLICED
    alone = str(path) if flat or len(slices) > 1 else ""
    key = (text(dataset, "SeriesInstanceUID"), slices[0].size, slices[0].samples, alone)
    found.slices.setdefault(key, []).extend(slices)
    found.about.setdefault(key, [text(dataset, keyword) for keyword in _ABOUT])


def _no_scan(dataset: Dataset, kind: str) -> str:
    """Why an object is no scan; empty if it is one."""
    if not number(dataset, "Rows"):
        return f"no image, or truncated ({text(dataset, 'Modality') or 'a directory, a document or damaged'})"
    image_type = [str(part).upper() for part in dataset.get("ImageType") or []]
    if text(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        return "a picture in palette colours"
    if "LOCALIZER" in image_type:
        return "a localiser"
    if kind == _SECONDARY or kind.startswith(f"{_SECONDARY}."):
        return "a secondary capture, a picture of a screen or a film"
    if text(dataset, "Modality") in ("RTDOSE", "PR", "SR", "KO"):
        return f"no scan ({text(dataset, 'Modality')})"
    return ""


def _order(series: Series) -> tuple[int, str, str]:
    plain = series.number.isdecimal() and len(series.number) < 10
    return int(series.number) if plain else 0, series.uid, str(series.path)


def _annotation(path: Path, dataset: Dataset, structures: bool) -> Annotation:
    uids = [text(item, "SeriesInstanceUID") for item in dataset.get("ReferencedSeriesSequence") or []]
    frame = text(dataset, "FrameOfReferenceUID")
    for reference in dataset.get("ReferencedFrameOfReferenceSequence") or []:
        frame = frame or text(reference, "FrameOfReferenceUID")
        for study in reference.get("RTReferencedStudySequence") or []:
            uids += [text(item, "SeriesInstanceUID") for item in study.get("RTReferencedSeriesSequence") or []]
    return Annotation(path, structures, tuple(dict.fromkeys(uid for uid in uids if uid)), frame)


def series_of(path: Path) -> Series:
    """The series that a file belongs to, among the files of its folder.

    Args:
        path: A DICOM file of an image.

    Raises:
        UserError: If it is no image of a scan.
    """
    found = contents_of_folder(path.parent)
    for series in found.series:
        if path in series.files:
            return series
    for annotation in found.annotations:
        if annotation.path == path:
            kind = "structure set" if annotation.structures else "segmentation"
            raise UserError(
                f"{path} is a DICOM {kind}, not a scan. Make masks of it: `segment convert input={path.parent} "
                "reference=SERIES output=FOLDER`, where SERIES is the folder of the series that it refers to."
            )
    for item in found.left_out:
        if path in item.files:
            raise UserError(f"{path} is not read: it is {item.reason}. Give a scan.")
    raise UserError(f"{path} is a copy of another file of its folder. Give the other file.")
