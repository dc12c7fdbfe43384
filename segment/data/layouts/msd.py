"""Medical Segmentation Decathlon: ``dataset.json`` lists every case's image and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segment.data.case import Case, Dataset
from segment.data.labels import Labels
from segment.data.layouts.common import checked, inside, label_names, named_channels, read_json
from segment.data.problems import WARNING, Problem, Report, raise_errors, reported
from segment.errors import UserError
from segment.io.formats import stem, suffix

LOOKED_FOR = "dataset.json with a 'training' list (Medical Segmentation Decathlon)"


def recognise(root: Path) -> bool:
    """Whether a folder contains an MSD data set.

    Args:
        root: A folder or file.

    Returns:
        True if its ``dataset.json`` has a list of training cases.
    """
    path = root / "dataset.json"
    return path.is_file() and isinstance(read_json(path).get("training"), list)


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read the cases of an MSD data set.

    Args:
        root: The folder with ``dataset.json``.
        name: Name to give the data set.
        labels: Labels of the masks; None uses those of ``dataset.json``.
        channels: Channel names; None uses the ``modality`` of ``dataset.json``.
        report: Receives every invalid entry and missing file; raises by default.

    Returns:
        The data set with its valid cases. Test scans are left out if the folder of test images is missing.

    Raises:
        UserError: If ``dataset.json`` cannot be read or lists no case whose images exist.
    """
    path = root / "dataset.json"
    content = read_json(path)
    if not isinstance(content.get("training"), list):
        raise UserError(
            f"{path} has no list 'training' of cases, so this is not an MSD data set. Try data.layout=auto."
        )
    training = _cases(root, content["training"], path, report)
    cases = checked(training, path, report)
    if not cases:
        raise UserError(f"{path}: the list 'training' contains no case whose images exist. Fix it or add the files.")
    for case in training:
        if case.label is None:
            what = f"The training case {case.id!r} has no label."
            report(Problem("missing", str(path), what, "Add it, or move the case to 'test'."))
    listed = content.get("test")
    tests = _cases(root, listed if isinstance(listed, list) else [], path, report)
    _compare_counts(content, {"numTraining": training, "numTest": tests}, path, report)
    present = [case for case in tests if case.images[0].parent.is_dir()]
    modality = content.get("modality", content.get("channel_names")) if channels is None else channels
    return Dataset(
        name=name,
        root=root,
        cases=cases,
        labels=labels or label_names(content, path, cases, report),
        channels=named_channels(cases, modality or None, path, report),
        test_cases=checked(present, path, report),
        licence=str(content.get("licence", content.get("license", ""))),
    )


def _compare_counts(content: Mapping[str, Any], cases: Mapping[str, list[Case]], path: Path, report: Report) -> None:
    """Warn about wrong counts, which are informative only."""
    for key, found in cases.items():
        if content.get(key, len(found)) != len(found):
            what = f"{key!r} is {content[key]!r}, but {len(found)} valid case(s) are listed."
            report(Problem("description", str(path), what, "Copy the missing scans, or correct the number.", WARNING))


def _cases(root: Path, entries: list[Any], where: Path, report: Report) -> list[Case]:
    cases = []
    for entry in entries:
        with reported(report, "description", where):
            case = _case(root, entry, where)
            if case is not None:
                cases.append(case)
    return cases


def _case(root: Path, entry: Any, where: Path) -> Case | None:
    """One entry of a list: ``{"image": ..., "label": ...}``, or a plain path for a test scan; None for ``._`` files."""
    fields = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or "image" not in fields:
        raise UserError(f"{where}: the entry {str(entry)[:80]!r} does not specify an image. Correct it.")
    listed = fields["image"] if isinstance(fields["image"], list) else [fields["image"]]
    images = [inside(root, text, where) for text in listed]
    if not images:
        raise UserError(f"{where}: the entry {str(entry)[:80]!r} does not specify an image. Correct it.")
    if images[0].name.startswith("._"):
        return None
    label = inside(root, fields["label"], where) if fields.get("label") else None
    # Named after its mask, so that predictions match the references by file name.
    return Case(stem(label or images[0]), tuple(_channel_files(images)), label)


def _channel_files(images: list[Path]) -> list[Path]:
    """nnU-Net's first version listed ``case.nii.gz`` and stored ``case_0000.nii.gz``, ``case_0001.nii.gz``, ..."""
    first = images[0]
    if len(images) > 1 or first.is_file():
        return images
    files: list[Path] = []
    while (path := first.with_name(f"{stem(first)}_{len(files):04d}{suffix(first)}")).is_file():
        files.append(path)
    return files or images
