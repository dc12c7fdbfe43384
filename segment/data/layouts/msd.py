"""Medical Segmentation Decathlon and MONAI's data lists: a JSON file lists every case's image and label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segment.data.case import Case, Dataset, Fold
from segment.data.labels import Labels
from segment.data.layouts.common import checked, inside, label_names, named_channels, read_json, unique_names
from segment.data.problems import WARNING, Problem, Report, raise_errors, reported
from segment.errors import UserError
from segment.io.formats import stem, suffix

LOOKED_FOR = "dataset.json (or another *.json given as data.root) with a 'training' list (Decathlon, MONAI)"


def recognise(root: Path) -> bool:
    """Whether a folder contains an MSD data set.

    Args:
        root: A folder or file.

    Returns:
        True if its ``dataset.json``, or the JSON file itself, has a list of training cases.
    """
    path = _file(root)
    return path.is_file() and isinstance(read_json(path).get("training"), list)


def read(
    root: Path,
    name: str,
    labels: Labels | None,
    channels: Sequence[str] | None,
    report: Report = raise_errors,
) -> Dataset:
    """Read the cases of an MSD data set, or of a data list as MONAI's bundles and Auto3DSeg use.

    A ``validation`` list makes one fold, trained on the ``training`` list. Without it, the numbers ``fold`` of the
    entries make the folds; entries without a number are in the training part of each.

    Args:
        root: The folder with ``dataset.json``, or the JSON file, whose paths are relative to its folder.
        name: Name to give the data set.
        labels: Labels of the masks; None uses those of ``dataset.json``.
        channels: Channel names; None uses the ``modality`` of ``dataset.json``.
        report: Receives every invalid entry and missing file; raises by default.

    Returns:
        The data set with its valid cases. Test scans are left out if the folder of test images is missing.

    Raises:
        UserError: If ``dataset.json`` cannot be read or lists no case whose images exist.
    """
    path = _file(root)
    root, content = path.parent, read_json(path)
    if not isinstance(content.get("training"), list):
        raise UserError(
            f"{path} has no list 'training' of cases, so this is not an MSD data set. Try data.layout=auto."
        )
    training = _cases(root, content["training"], path, report)
    validation = _cases(root, _list(content, "validation"), path, report)
    parts = [*(fold for _, fold in training), *("val" for _ in validation)]
    listed = _renamed([case for case, _ in (*training, *validation)])
    cases = checked(listed, path, report)
    if not cases:
        raise UserError(f"{path}: the list 'training' contains no case whose images exist. Fix it or add the files.")
    for case in listed:
        if case.label is None:
            what = f"The training case {case.id!r} has no label."
            report(Problem("missing", str(path), what, "Add it, or move the case to 'test'."))
    tests = _cases(root, _list(content, "test") or _list(content, "testing"), path, report)
    _compare_counts(content, {"numTraining": len(training), "numTest": len(tests)}, path, report)
    present = [case for case in _renamed([case for case, _ in tests]) if case.images[0].parent.is_dir()]
    modality = content.get("modality", content.get("channel_names")) if channels is None else channels
    return Dataset(
        name=name,
        root=root,
        cases=cases,
        labels=labels or label_names(content, path, cases, report),
        channels=named_channels(cases, modality or None, path, report),
        test_cases=checked(present, path, report),
        licence=str(content.get("licence", content.get("license", ""))),
        folds=_folds({case.id: part for case, part in zip(listed, parts, strict=True)}, cases),
    )


def _file(root: Path) -> Path:
    return root if root.is_file() and root.suffix.lower() == ".json" else root / "dataset.json"


def _list(content: Mapping[str, Any], key: str) -> list[Any]:
    listed = content.get(key)
    return listed if isinstance(listed, list) else []


def _renamed(cases: list[Case]) -> list[Case]:
    """The cases, named after the folders of their files too where the names of the files repeat."""
    names = unique_names([case.label or case.images[0] for case in cases])
    return [replace(case, id=name) for case, name in zip(cases, names, strict=True)]


def _folds(parts: Mapping[str, int | str | None], cases: Sequence[Case]) -> tuple[Fold, ...]:
    """The folds that the lists state, of the valid cases; none if they state none.

    Args:
        parts: By id of the case: ``val``, the number of its fold, or None.
        cases: The valid cases.
    """
    numbers = sorted({part for part in parts.values() if isinstance(part, int)})
    chosen: Sequence[int | str] = ["val"] if "val" in parts.values() else numbers
    folds = [
        {
            "train": [case.id for case in cases if parts[case.id] != part],
            "val": [case.id for case in cases if parts[case.id] == part],
        }
        for part in chosen
    ]
    return tuple(fold for fold in folds if fold["train"] and fold["val"])


def _compare_counts(content: Mapping[str, Any], counts: Mapping[str, int], path: Path, report: Report) -> None:
    """Warn about wrong counts, which are informative only."""
    for key, count in counts.items():
        if content.get(key, count) != count:
            what = f"{key!r} is {content[key]!r}, but {count} valid case(s) are listed."
            report(Problem("description", str(path), what, "Copy the missing scans, or correct the number.", WARNING))


def _cases(root: Path, entries: list[Any], where: Path, report: Report) -> list[tuple[Case, int | None]]:
    """The cases of a list, and the number of the fold of each."""
    cases = []
    for entry in entries:
        with reported(report, "description", where):
            case = _case(root, entry, where)
            if case is not None:
                fold = entry.get("fold") if isinstance(entry, dict) else None
                cases.append((case, fold if type(fold) is int else None))
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
