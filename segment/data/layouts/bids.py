"""BIDS with masks as derivatives: ``sub-01/anat/sub-01_T1w.nii.gz``, ``derivatives/NAME/sub-01/anat/..._dseg.nii.gz``.

Source: the Brain Imaging Data Structure 1.10, "Imaging data types as derivatives", https://bids-specification.readthedocs.io
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import channel_table, checked, found_labels
from segment.data.layouts.table import read_rows
from segment.data.problems import Problem, Report, raise_errors, reported
from segment.errors import UserError
from segment.io.formats import is_image_file, stem

LOOKED_FOR = "sub-*/anat/*_T1w.nii.gz with derivatives/*/sub-*/anat/*_dseg.nii.gz (BIDS)"
_FOLDERS = ("sub-*/anat", "sub-*/ses-*/anat")
_MASK = "dseg"
_PREFERRED = "T1w"

Name = tuple[str, ...]
"""A file name without its suffix and modality: ``("sub-01", "ses-1", "run-1")``."""


def recognise(root: Path) -> bool:
    """Whether a folder is a BIDS data set with masks.

    Args:
        root: A folder or file.

    Returns:
        True if its derivatives have a discrete segmentation of a subject.
    """
    return root.is_dir() and next(_masks(root), None) is not None


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read the anatomical scans of all subjects and sessions.

    Images of one subject, session and run are channels of one scan, but only one is used unless ``channels`` says so,
    since they need not be on one grid: T1w, or the first that all labelled scans have. A mask belongs to the image
    with the most entities of its own name: ``sub-01_run-2_desc-manual_dseg`` to ``sub-01_run-2_T1w``. Sessions and runs
    of a subject stay in one fold. ``participants.tsv`` describes the scans.

    Args:
        root: The folder with the subjects' folders and ``derivatives/``.
        name: Name to give the data set.
        labels: Labels of the masks; None names them after the values found and a ``dseg.tsv`` beside or above them.
        channels: The modalities to use, such as ``[T1w, FLAIR]``.
        report: Receives every problem, such as two masks of one scan; raises by default.

    Returns:
        The data set with its valid cases; scans without a mask become test scans.

    Raises:
        UserError: If no scan has its images and a mask.
    """
    images = _images(root)
    masks = _matched(root, images, report)
    if not masks:
        raise UserError(f"{root} does not contain {LOOKED_FOR}.")
    wanted = list(channel_table(channels, "data.channels")) if channels is not None else [_modality(images, masks)]
    several = max(Counter(scan[0] for scan in masks).values()) > 1
    about = _participants(root)
    cases = []
    for scan, found in images.items():
        if any(modality not in found for modality in wanted):
            if scan in masks:
                what = f"Its scan has the modalities {', '.join(sorted(found))}, not {', '.join(wanted)}."
                report(Problem("missing", str(masks[scan]), what, "Add the image, or choose others: data.channels."))
            continue
        files = tuple(found[modality] for modality in wanted)
        group = scan[0] if several else None
        cases.append(Case("_".join(scan), files, masks.get(scan), group, about=about.get(scan[0], ())))
    training = checked((case for case in cases if case.label), root, report)
    if not training:
        raise UserError(f"{root} contains no scan with {', '.join(wanted)} and a mask. Choose others: data.channels.")
    tests = checked((case for case in cases if not case.label), root, report)
    return Dataset(name, root, training, labels or found_labels(training, report, root), tuple(wanted), tests)


def _masks(root: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        for path in sorted(root.glob(f"derivatives/*/{folder}/*_{_MASK}.*")):
            if is_image_file(path):
                yield path


def _images(root: Path) -> dict[Name, dict[str, Path]]:
    """Images by scan and modality."""
    found: dict[Name, dict[str, Path]] = defaultdict(dict)
    for folder in _FOLDERS:
        for path in sorted(root.glob(f"{folder}/sub-*")):
            *entities, modality = stem(path).split("_")
            if is_image_file(path) and entities and modality != _MASK:
                found[tuple(entities)].setdefault(modality, path)
    return dict(sorted(found.items()))


def _matched(root: Path, images: Mapping[Name, Mapping[str, Path]], report: Report) -> dict[Name, Path]:
    """The mask of every scan that has one."""
    found: dict[Name, Path] = {}
    for path in _masks(root):
        entities = set(stem(path).split("_")[:-1])
        scan = max((scan for scan in images if entities >= {*scan}), key=len, default=None)
        if scan is None:
            report(
                Problem("missing", str(path), "The mask has no image with the same name.", "Add it or move the mask.")
            )
        elif scan in found:
            what = f"It and {found[scan]} are masks of the same scan."
            fix = "Keep one, or choose by data.layout=pattern."
            report(Problem("duplicate", str(path), what, fix))
        else:
            found[scan] = path
    return found


def _modality(images: Mapping[Name, Mapping[str, Path]], masks: Mapping[Name, Path]) -> str:
    """The modality that is used if none is asked for."""
    common = set.intersection(*({*images[scan]} for scan in masks))
    if not common:
        raise UserError(
            f"{next(iter(masks.values()))}: no modality is common to all scans with a mask. Set data.channels."
        )
    return _PREFERRED if _PREFERRED in common else min(common)


def _participants(root: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """What ``participants.tsv`` says of every subject."""
    path = root / "participants.tsv"
    if not path.is_file():
        return {}
    rows: list[tuple[int, dict[str, str]]] = []
    with reported(lambda problem: None, "description", path):
        rows = read_rows(path, lambda problem: None)[1]
    return {
        row["participant_id"]: tuple((key, value) for key, value in row.items() if key != "participant_id")
        for _, row in rows
        if "participant_id" in row
    }
