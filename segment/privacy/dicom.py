"""DICOM attributes of the Basic Application Level Confidentiality Profile: found, and replaced in copies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segment.errors import UserError
from segment.io.dicom.files import (
    damage_as_value_error,
    read_attributes,
    read_dataset,
    require_pydicom,
    text,
    transfer_syntax,
)
from segment.privacy.burned_in import why_not
from segment.privacy.pixels import text_boxes
from segment.privacy.profile import ACTIONS
from segment.privacy.values import Field, looks_like

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

METHOD = ["segment", "PS3.15 Basic Profile", "dates and times removed", "patients numbered", "structure names kept"]
_CODE = ("113100", "DCM", "Basic Application Confidentiality Profile")
_DUMMY = "ANON"
_HARMLESS = re.compile(rf"|0|{_DUMMY}\d*")
_OWN_UIDS = ("2.25.", "1.2.840.10008.")  # made from random numbers, and DICOM's own
_KEPT = {"ROIName"}  # a label's name; judged by its value
_TIMES, _TEXTS = {"DA", "TM", "DT", "AS"}, {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_NUMBERS = {"DS", "IS", "FL", "FD", "SL", "SS", "SV", "UL", "US", "UV"}
BURNED_IN = "BurnedInAnnotation"


def find(path: Path) -> Iterator[Field]:
    """Read the attributes that the profile replaces or removes.

    Args:
        path: A DICOM file; untrusted.

    Yields:
        Keyword and value; UIDs, private tags and overlays once for the file.

    Raises:
        ValueError: If it is damaged.
        UserError: If pydicom is missing.
    """
    require_pydicom()
    with damage_as_value_error():
        yield from list(_found(read_attributes(path, tags=None)))


def _found(dataset: Dataset) -> Iterator[Field]:
    for element in dataset.iterall():
        action = ACTIONS.get(element.keyword)
        if element.tag.is_private:
            yield "private tags", ""
        elif _is_drawing(element):
            yield "overlays or curves", ""
        elif element.VR == "UI":
            if action and any(uid and not uid.startswith(_OWN_UIDS) for uid in _values(element)):
                yield "UIDs", ""
        elif _tells(element, action):
            yield element.keyword, "" if element.VR == "SQ" else str(element.value)


def _tells(element: DataElement, action: str | None) -> bool:
    if element.keyword == BURNED_IN:
        return str(element.value).upper() == "YES"
    if element.keyword in _KEPT:
        return looks_like(str(element.value)) is not None
    return action is not None and not _is_harmless(element)


def _is_drawing(element: DataElement) -> bool:
    """Curves, and overlays' pixels and comments."""
    group = element.tag.group & 0xFF00
    return group == 0x5000 or (group == 0x6000 and element.tag.element in (0x3000, 0x4000))


def _values(element: DataElement) -> list[str]:
    value = element.value
    return [str(item) for item in value] if element.VM > 1 else [str(value or "")]


def _is_harmless(element: DataElement) -> bool:
    if element.VR == "SQ":
        return not element.value or ACTIONS[element.keyword] == "U"
    return element.value is None or all(_HARMLESS.fullmatch(value.strip(" \0")) for value in _values(element))


@dataclass
class Anonymizer:
    """Replaces UIDs and patients, each by the same new one in all files of a run."""

    uids: dict[str, str] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)

    def clean(self, path: Path, copy: Path) -> None:
        """Copy a DICOM file by the profile; pixels are copied as they are stored.

        Dates, times and ages become empty also where the profile would put a dummy, since times that are made up would
        give a wrong decay of PET.

        Args:
            path: The file.
            copy: File to write.

        Raises:
            UserError: If it says that it has burned-in text, which is not removed; or has no SOP class.
            ValueError: If it is damaged.
        """
        from pydicom.dataset import FileMetaDataset
        from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID

        with damage_as_value_error():
            dataset = read_dataset(path)
            if text(dataset, BURNED_IN).upper() == "YES":
                if not text_boxes(path):
                    raise UserError(
                        f"{path}: BurnedInAnnotation=YES, and text in pixels is not found{_why()}. Leave it out."
                    )
                dataset.BurnedInAnnotation = "NO"  # once it is blanked
            if not text(dataset, "SOPClassUID"):
                raise UserError(f"{path} does not say what kind of object it is, as a DICOMDIR. Leave it out.")
            patient = text(dataset, "PatientID") or text(dataset, "PatientName")
            number = self.patients.setdefault(patient, f"{_DUMMY}{len(self.patients) + 1:04d}")
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = UID(transfer_syntax(dataset))
            meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
            self._clean(dataset)
            meta.MediaStorageSOPClassUID = UID(text(dataset, "SOPClassUID"))
            meta.MediaStorageSOPInstanceUID = UID(text(dataset, "SOPInstanceUID") or self._uid(""))
            dataset.file_meta, dataset.preamble = meta, bytes(128)
            dataset.PatientID = dataset.PatientName = number
            _state_method(dataset)
            dataset.save_as(copy, enforce_file_format=True)

    def _clean(self, dataset: Dataset) -> None:
        """Apply the profile to a data set and to the items of its sequences."""
        for element in list(dataset):
            action = ACTIONS.get(element.keyword)
            if element.tag.is_private or _is_drawing(element) or action == "X":
                del dataset[element.tag]
            elif element.VR == "SQ":
                if action in ("D", "Z"):
                    element.value = []
                for item in element.value:
                    self._clean(item)
            elif action and element.keyword not in _KEPT:
                element.value = self._replaced(element, action)

    def _replaced(self, element: DataElement, action: str) -> Any:
        if element.VR == "UI":
            values = [self._uid(value) if value else "" for value in _values(element)]
            return values if len(values) > 1 else values[0]
        if element.VR in _TIMES or action == "Z":
            return b"" if element.VR in ("OB", "OW", "UN") else None
        if element.VR in _TEXTS:
            return _DUMMY
        return 0 if element.VR in _NUMBERS else b""

    def _uid(self, uid: str) -> str:
        from pydicom.uid import generate_uid

        if uid.startswith("1.2.840.10008."):
            return uid
        return self.uids.setdefault(uid, generate_uid(prefix=None)) if uid else generate_uid(prefix=None)


def _why() -> str:
    reason = why_not()
    return f", which {reason}" if reason else ""


def _state_method(dataset: Dataset) -> None:
    """Say in the file that and how the patient's identity was removed."""
    from pydicom import Dataset as Item

    code = Item()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _CODE
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    dataset.DeidentificationMethodCodeSequence = [code]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
