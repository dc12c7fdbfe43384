"""nnU-Net: ``dataset.json`` names channels and labels; ``imagesTr/CASE_0000.ext`` and ``labelsTr/CASE.ext``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import (
    checked,
    image_files,
    inside,
    label_names,
    named_channels,
    read_json,
    split_channel,
)
from segment.data.problems import Problem, Report, raise_errors, reported
from segment.errors import UserError, did_you_mean
from segment.io.formats import suffixes

LOOKED_FOR = "dataset.json with 'channel_names' and 'file_ending' (nnU-Net)"


def recognise(root: Path) -> bool:
    """Whether a folder contains an nnU-Net raw data set.

    Args:
        root: A folder or file.

    Returns:
        True if its ``dataset.json`` specifies channels and a file ending.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return False
    content = read_json(path)
    return "channel_names" in content and "file_ending" in content


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read the cases of an nnU-Net raw data set.

    Args:
        root: The folder with ``dataset.json``.
        name: Name to give the data set.
        labels: Labels of the masks; None uses those of ``dataset.json``.
        channels: Channel names; None uses those of ``dataset.json``.
        report: Receives every problem of ``dataset.json`` and every missing file; raises by default.

    Returns:
        The data set with its valid cases; ``imagesTs`` (with ``labelsTs`` if it exists) provides its test scans.

    Raises:
        UserError: If ``dataset.json`` cannot be read, or no case has all its images.
    """
    path = root / "dataset.json"
    content = read_json(path)
    missing = [key for key in ("channel_names", "file_ending") if key not in content]
    if missing:
        raise UserError(f"{path} has no {missing[0]!r}, so this is not an nnU-Net data set. Try data.layout=auto.")
    ending = str(content["file_ending"])
    if ending not in suffixes():
        raise UserError(f"{path}: file_ending {ending!r} is not supported.{did_you_mean(ending, suffixes())}")
    named = named_channels([], content["channel_names"], path, report)
    if isinstance(content.get("dataset"), dict):
        found = []
        for key, entry in content["dataset"].items():
            with reported(report, "description", path):
                found.append(_listed(root, key, entry, path))
    else:
        found = _folder(root, "Tr", ending, len(named))
    cases = checked(found, root, report)
    for case in found:
        if case.label is None:
            what = f"The case {case.id!r} has no label labelsTr/{case.id}{ending}."
            report(Problem("missing", str(root), what, "Add it."))
        if len(case.images) != len(named):
            what = f"The case {case.id!r} has {len(case.images)} channel file(s); {path.name} names {len(named)}."
            report(Problem("channels", str(root), what, "Fix the case or the names."))
    declared = content.get("numTraining", len(found))
    if declared != len(found):
        what = f"It declares {declared!r} training cases, but {len(found)} were found."
        report(Problem("missing", str(path), what, "Copy the rest or correct the number."))
    if not cases:
        raise UserError(f"{root} contains no training case with all its images. Copy them there.")
    table = labels or label_names(content, path, cases, report)
    return Dataset(
        name=name,
        root=root,
        cases=cases,
        labels=table,
        channels=named if channels is None else named_channels([], channels, "data.channels", report),
        test_cases=checked(_folder(root, "Ts", ending, len(named)), root, report),
        licence=str(content.get("licence", content.get("license", ""))),
    )


def _listed(root: Path, key: str, entry: Any, where: Path) -> Case:
    """One entry of the optional key ``dataset``: ``{"images": [...], "label": ...}``."""
    if not isinstance(entry, dict) or not isinstance(entry.get("images"), list) or not entry["images"]:
        raise UserError(f"{where}: the entry of case {key!r} has no list 'images'. Correct it.")
    label = inside(root, entry["label"], where) if entry.get("label") else None
    return Case(key, tuple(inside(root, text, where) for text in entry["images"]), label)


def _folder(root: Path, part: str, ending: str, count: int) -> list[Case]:
    """Cases of ``imagesTr`` or ``imagesTs``, with the paths of all channels, whether or not the files exist."""
    images, masks = root / f"images{part}", root / f"labels{part}"
    names = {path.name[: -len(ending)] for path in image_files(images) if path.name.endswith(ending)}
    ids = {split_channel(name)[0] for name in names}
    labelled = {path.name[: -len(ending)] for path in image_files(masks) if path.name.endswith(ending)}
    return [
        Case(
            case,
            tuple(images / f"{case}_{channel:04d}{ending}" for channel in range(count)),
            masks / f"{case}{ending}" if case in labelled else None,
        )
        for case in ids | labelled
    ]
