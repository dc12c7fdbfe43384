"""Two folders, ``images/`` and ``labels/``, with one file per scan, of the same name in each; test scans likewise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import (
    by_stem,
    checked,
    found_labels,
    image_files,
    named_channels,
    split_channel,
    unread_file,
)
from segment.data.problems import WARNING, Problem, Report, raise_errors
from segment.errors import UserError
from segment.io.formats import stem

LOOKED_FOR = "images/ and labels/ (or masks/, or imagesTr/ and labelsTr/) with matching file names"
_MASKS = ("labels", "masks")
_TRAINING = ("train", "training")
# Folders of training images and masks, and of test images and masks.
_PAIRS = (
    *((f"images/{part}", f"{masks}/{part}", "images/test", f"{masks}/test") for masks in _MASKS for part in _TRAINING),
    *((f"{part}/images", f"{part}/{masks}", "test/images", f"test/{masks}") for masks in _MASKS for part in _TRAINING),
    *(("images", masks, "imagesTs", "labelsTs") for masks in _MASKS),
    ("imagesTr", "labelsTr", "imagesTs", "labelsTs"),
)


def recognise(root: Path) -> bool:
    """Whether a folder contains an image folder and a label folder.

    Args:
        root: A folder or file.

    Returns:
        True if it contains one of the known pairs of folders.
    """
    return _pair(root) is not None


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read the cases of two folders.

    A scan of several files is ``CASE_0000.ext``, ``CASE_0001.ext``, ... with the mask ``CASE.ext``; where no mask is
    named so, four digits are part of the name, also in the test scans. Mask and image may have different formats.
    ``imagesTs/`` (with ``labelsTs/``), if it exists, contains test scans. The official training and test scans may also
    lie in ``images/train/`` and ``images/test/`` (with ``labels/train/`` and ``labels/test/``), or in ``train/images/``
    and ``test/images/``; ``training`` and ``masks`` are understood as well.

    Args:
        root: The folder with both folders.
        name: Name to give the data set.
        labels: Labels of the masks; None names them after the values found, which reads every mask.
        channels: Channel names; None numbers them.
        report: Receives every problem, such as an image without a mask; raises by default.

    Returns:
        The data set with its valid cases.

    Raises:
        UserError: If the folders are missing or contain no scan.
    """
    pair = _pair(root)
    if pair is None:
        raise UserError(f"{root} does not contain {LOOKED_FOR}.")
    images, masks, test_images, test_masks = (root / folder for folder in pair)
    cases = checked(_cases(images, masks, pair[2], report), root, report)
    if not cases:
        raise UserError(f"{images} contains no usable scan. Put the scans there.")
    counts = {len(case.images): case.id for case in cases}
    if len(counts) > 1:
        what = f"The cases {', '.join(map(repr, counts.values()))} have different numbers of channels."
        report(Problem("channels", str(images), what, "Add the missing files or remove the cases."))
    numbered = any(stem(case.images[0]) != case.id for case in cases)
    tests = checked(_cases(test_images, test_masks, None, report, numbered), root, report)
    for folder in (root / "images" / "val", root / "val" / "images"):
        if images_unread := image_files(folder):
            what = f"Its {len(images_unread)} images are not read: folds of the training scans are for validation."
            fix = "Move them to the training scans, and list their names in a splits file to validate on them."
            report(Problem("unlisted", str(folder), what, fix, WARNING))
    named = named_channels(cases, channels, "data.channels", report)
    table = labels or found_labels(cases, report, root)
    return Dataset(name, root, cases, table, named, tests)


def _pair(root: Path) -> tuple[str, str, str, str] | None:
    return next((pair for pair in _PAIRS if all((root / folder).is_dir() for folder in pair[:2])), None)


def _cases(images: Path, masks: Path, unlabelled: str | None, report: Report, numbered: bool = False) -> list[Case]:
    """The cases of two folders.

    Args:
        images: The folder of images.
        masks: The folder of masks.
        unlabelled: Name of the folder that an image without a mask belongs into; None if it may stay.
        report: Receives the problems.
        numbered: Whether four digits at the end of a name are a channel even if no mask says so.
    """
    labels = by_stem(image_files(masks), report)
    named = by_stem(image_files(images), report)
    numbered = numbered or any(split_channel(name)[0] in labels for name in named if name not in labels)
    files: dict[str, dict[int, Path]] = {}
    for name, path in named.items():
        # A name that a mask also has is a full name, even if it ends in four digits.
        case, channel = (name, 0) if name in labels or not numbered else split_channel(name)
        known = files.setdefault(case, {}).setdefault(channel or 0, path)
        if known != path:
            what = f"It and {known.name} are the same channel of case {case!r}."
            report(Problem("duplicate", str(path), what, "Keep one of them."))
    for unmatched in sorted(set(labels) - set(files)):
        what = f"The mask has no matching image {images.name}/{unmatched}.*{unread_file(images, unmatched)}."
        report(Problem("missing", str(labels[unmatched]), what, "Add it or move the mask."))
    found = []
    for case, channels in files.items():
        if sorted(channels) != list(range(len(channels))):
            what = f"The case {case!r} has the channels {sorted(channels)}; one is missing."
            report(Problem("missing", str(images), what, "Add its file."))
            continue
        if unlabelled and case not in labels:
            what = f"The image has no matching mask {masks.name}/{case}.*{unread_file(masks, case)}."
            fix = f"Add it, or move the image to {unlabelled}/, where scans without a mask belong."
            report(Problem("missing", str(channels[0]), what, fix))
        found.append(Case(case, tuple(channels[number] for number in sorted(channels)), labels.get(case)))
    return found
