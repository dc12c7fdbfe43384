"""A data set: cases with their image and label files, and the names of its labels and channels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segment.data.labels import Labels
from segment.io.annotations import Box

Fold = dict[str, list[str]]
"""Ids of the scans of a fold: ``{"train": [...], "val": [...]}``."""


@dataclass(frozen=True)
class Case:
    """One scan.

    Attributes:
        id: Unique name within the data set; predictions and table rows use it.
        images: One file per channel, or a single file that holds every channel.
        label: The reference mask; None for a scan without one.
        group: Patient (or other unit) that must not be split across folds; None when cases are independent.
        source: Origin of the scan where several data sets are combined; the sampler can weight them. May be empty.
        about: What else is known of the scan, such as site, scanner or sex: pairs of name and value.
        boxes: Bounding boxes that were drawn on it, in pixels, as its annotations have them.
        made_from: The data set's own files that the mask was made from, if it is none of them itself.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    group: str | None = None
    source: str = ""
    about: tuple[tuple[str, str], ...] = ()
    boxes: tuple[Box, ...] = ()
    made_from: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the scan, the label last."""
        return self.images if self.label is None else (*self.images, self.label)

    @property
    def sources(self) -> tuple[Path, ...]:
        """Every file of the scan, and those that its mask was made from."""
        return (*self.files, *self.made_from)


@dataclass(frozen=True)
class Dataset:
    """Cases on disk with the names of their labels and channels.

    Attributes:
        name: Short name, used in run names and tables.
        root: Folder that contains the cases.
        cases: Labelled cases, sorted by id; used for training and cross-validation.
        labels: Meaning of the values in the masks.
        channels: Channel names, in the order of the image channels.
        test_cases: Cases set aside by the data set's authors, with or without labels.
        licence: Licence of the data, as stated by its authors.
        notice: One sentence printed wherever results on this data set are shown; may be empty.
        specimen: What scans of different folds come from although it is one animal, film or block: a name if all do, or
            a regular expression whose first group finds it in the id of a scan; may be empty.
        tolerance: Name of a structure to the distance in mm within which two surfaces of it agree; may lack some.
        codes: Name of a structure to its code for DICOM: value, meaning, and maybe scheme and lesion; may lack some.
        folds: Folds that the data set's own files state, in place of the default ones; empty if they state none.
    """

    name: str
    root: Path
    cases: tuple[Case, ...]
    labels: Labels
    channels: tuple[str, ...]
    test_cases: tuple[Case, ...] = ()
    licence: str = ""
    notice: str = ""
    specimen: str = ""
    tolerance: Mapping[str, float] = field(default_factory=dict)
    codes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()

    def groups(self) -> dict[str, str]:
        """The unit of every scan whose scans are not independent, by id: its specimen, else its group, else empty."""
        pattern = re.compile(self.specimen) if self.specimen else None
        found = {}
        for case in (*self.cases, *self.test_cases):
            match = pattern.search(case.id) if pattern is not None and pattern.groups else None
            specimen = match[1] if match else "" if pattern is None or pattern.groups else self.specimen
            found[case.id] = specimen or case.group or ""
        return found
