"""One folder per patient with its images by modality and one mask, as in BraTS."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import by_stem, channel_table, checked, found_labels, image_files, named_channels
from segment.data.problems import WARNING, Problem, Report, raise_errors
from segment.errors import UserError
from segment.io.formats import stem

LOOKED_FOR = "one folder per patient, each with its images and one file called ...seg, ...label or ...mask"
_MASK = re.compile(r"(^|[^a-z])(seg|segmentation|labels?|mask)$", re.IGNORECASE)


def recognise(root: Path) -> bool:
    """Whether a folder contains one folder per patient.

    Args:
        root: A folder or file.

    Returns:
        True if any folder in it contains one mask and at least one other image file.
    """
    return any(map(_is_patient, patient_folders(root)))


def _is_patient(folder: Path) -> bool:
    masks = [_MASK.search(stem(path)) is not None for path in image_files(folder)]
    return sum(masks) == 1 and len(masks) > 1


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read one case from every folder.

    ``BraTS_001/BraTS_001_flair.nii.gz`` is the channel ``flair`` of the case ``BraTS_001``; channels are sorted by
    name.

    Args:
        root: The folder that contains the patients' folders.
        name: Name to give the data set.
        labels: Labels of the masks; None names them after the values found, which reads every mask.
        channels: The channels to use, by name and in this order; with one image per patient, its channel name.
        report: Receives every patient whose files differ from the others'; raises by default.

    Returns:
        The data set with its valid cases; patients without a mask become test scans. Folders without any image, such as
        one of documents, are reported as a warning.

    Raises:
        UserError: If no patient has images and a mask.
    """
    found = {}
    for folder in patient_folders(root):
        if image_files(folder):
            found[folder.name] = _files(folder, report)
        else:
            what = "The folder has no image, so it is not taken for a patient's."
            report(Problem("unlisted", str(folder), what, "Add the images, or move the folder elsewhere.", WARNING))
    if not any(mask for _, mask in found.values()):
        raise UserError(f"{root} does not contain {LOOKED_FOR}.")
    labelled = [patient for patient, (_, mask) in found.items() if mask]
    files, names = picked({patient: images for patient, (images, _) in found.items()}, labelled, root, channels, report)
    cases = [Case(patient, images, found[patient][1]) for patient, images in files.items()]
    training = checked((case for case in cases if case.label), root, report)
    tests = checked((case for case in cases if not case.label), root, report)
    if not training:
        raise UserError(f"{root} contains no patient with all images and a mask. Fix the folders.")
    named = named_channels(training, channels, "data.channels", report) if len(names) == 1 else tuple(names)
    table = labels or found_labels(training, report, root)
    return Dataset(name, root, training, table, named, tests)


def picked(
    found: Mapping[str, Mapping[str, Path]],
    labelled: Sequence[str],
    root: Path,
    channels: Sequence[str] | None,
    report: Report,
) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Pick the same channels of every patient.

    Args:
        found: A patient's images by channel name.
        labelled: Patients with a mask, at least one; the first says which channels there are.
        root: The folder that contains the patients' folders.
        channels: The channels to use, by name and in this order; with one image per patient, its channel name.
        report: Receives every patient that lacks a channel.

    Returns:
        The images of every patient that has them, and the names of the channels.
    """
    names = sorted(found[labelled[0]])
    single = len(names) == 1
    wanted = names if channels is None or single else list(channel_table(channels, "data.channels"))
    files = {}
    for patient, images in found.items():
        keys = sorted(images) if single and len(images) == 1 else wanted
        if not keys or any(key not in images for key in keys):
            what = f"The folder has the images {sorted(images)}, not {', '.join(wanted)}."
            report(Problem("missing", str(root / patient), what, "Fix the folder."))
            continue
        files[patient] = tuple(images[key] for key in keys)
    return files, wanted


def patient_folders(root: Path) -> list[Path]:
    """The folders in a folder that are not hidden, sorted; none if it is a file.

    Args:
        root: The folder.
    """
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path, report: Report) -> tuple[dict[str, Path], Path | None]:
    """A patient's images by channel name, and the mask."""
    files = by_stem(image_files(folder), report)
    masks = [name for name in files if _MASK.search(name)]
    if len(masks) > 1:
        report(Problem("duplicate", str(folder), f"It contains several masks: {', '.join(masks)}.", "Keep one."))
    images = {name.removeprefix(folder.name).strip("_-. ") or name: files[name] for name in files if name not in masks}
    return images, files[masks[0]] if masks else None
