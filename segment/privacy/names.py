"""Names of files and folders that say nothing of patients, in place of those that may."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePath

from segment.io.formats import stem

# What layouts, formats and sequences are called; a name of these words alone is kept, as they are at a name's end.
# fmt: off
_GENERAL = {
    "annotation", "annotations", "adc", "axial", "bone", "brain", "cor", "coronal", "ct", "dicom", "dir",
    "dwi", "fl", "flair", "fundus", "gd", "gt", "image", "images", "img", "imgs", "jpegimages", "label",
    "labels", "left", "ls", "mask", "masks", "mr", "mri", "pd", "pet", "post", "pre", "preds", "prediction",
    "predictions", "pt", "raw", "right", "sag", "sagittal", "scan", "scans", "seg", "segmentation",
    "segmentations", "series", "slice", "slices", "study", "swi", "t1", "t1c", "t1ce", "t1gd", "t1w", "t2",
    "t2f", "t2w", "tr", "train", "training", "trainval", "ts", "test", "testing", "tof", "tra", "us", "val",
    "valid", "validation", "volume", "volumes", "xray", "imagestr", "imagests", "labelstr", "labelsts",
}
# fmt: on
_PARTS = re.compile(r"[_\-. ]+")
_CHANNEL = re.compile(r"00\d\d")


def numbered(files: Iterable[PurePath]) -> dict[PurePath, PurePath]:
    """Number the names of files and folders.

    Words such as ``images``, ``seg`` and ``t1`` and channel numbers stay, so that layouts remain and the mask of a scan
    keeps its scan's name.

    Args:
        files: Paths relative to the data set.

    Returns:
        Each path to its new one: ``Doe/img.nii.gz`` to ``folder_0001/img.nii.gz``, ``images/Doe_0000.nii.gz`` to
        ``images/scan_0001_0000.nii.gz``.
    """
    folders: dict[str, str] = {}
    scans: dict[str, str] = {}
    renamed = {}
    for file in files:
        parents = [_number(part, folders, "folder") for part in file.parent.parts]
        own = stem(Path(file.name))
        renamed[file] = PurePath(*parents, _number(own, scans, "scan") + file.name[len(own) :])
    return renamed


def _number(name: str, known: dict[str, str], kind: str) -> str:
    """A number in place of what precedes the general words at the end of a name."""
    first, end = name, ""
    while first:
        parts = _PARTS.split(first)
        if parts[-1].casefold() not in _GENERAL and not (_CHANNEL.fullmatch(parts[-1]) and len(parts) > 1):
            break
        before = first[: len(first) - len(parts[-1])]
        first, end = before.rstrip("_-. "), first[len(before.rstrip("_-. ")) :] + end
    return (known.setdefault(first, f"{kind}_{len(known) + 1:04d}") if first else "") + end
