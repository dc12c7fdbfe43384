"""Medical Segmentation Decathlon: ``dataset.json`` lists every case's image and label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segment.data.case import Case, Dataset
from segment.data.formats import stem, suffix
from segment.data.labels import Labels
from segment.data.layouts.common import (
    channel_table,
    checked,
    inside,
    label_table,
    named_channels,
    read_json,
)
from segment.errors import UserError

LOOKED_FOR = "dataset.json with a 'training' list (Medical Segmentation Decathlon)"


def recognise(root: Path) -> bool:
    """Whether a folder holds an MSD data set.

    Args:
        root: A folder or file.

    Returns:
        True when its ``dataset.json`` has a list of training cases.
    """
    path = root / "dataset.json"
    return path.is_file() and isinstance(read_json(path).get("training"), list)


def read(root: Path, name: str, labels: Labels | None, channels: Sequence[str] | None) -> Dataset:
    """Read the cases of an MSD data set.

    Args:
        root: The folder with ``dataset.json``.
        name: Name to give the data set.
        labels: What the masks hold; None takes those of ``dataset.json``.
        channels: Channel names; None takes the ``modality`` of ``dataset.json``.

    Returns:
        The data set. Its test scans are left out when the folder of test images is not there.

    Raises:
        UserError: When ``dataset.json`` is not sound or a file is missing.
    """
    path = root / "dataset.json"
    content = read_json(path)
    if not isinstance(content.get("training"), list):
        raise UserError(
            f"{path} has no list 'training' of cases, so this is not an MSD data set. Try data.layout=auto."
        )
    training = [_case(root, entry, path) for entry in content["training"]]
    cases = checked((case for case in training if case is not None), path)
    if not cases:
        raise UserError(f"{path}: the list 'training' names no case.")
    for case in cases:
        if case.label is None:
            raise UserError(f"{path}: training case {case.id!r} has no label. Add it, or move the case to 'test'.")
    listed = content.get("test")
    tests = [_case(root, entry, path) for entry in listed] if isinstance(listed, list) else []
    present = [case for case in tests if case is not None and case.images[0].parent.is_dir()]
    modality = content.get("modality", content.get("channel_names"))
    named = channel_table(modality, path) if channels is None and modality else named_channels(cases, channels, path)
    return Dataset(
        name=name,
        root=root,
        cases=cases,
        labels=labels or label_table(content.get("labels", {}), path, content.get("regions_class_order")),
        channels=named,
        test_cases=checked(present, path),
        licence=str(content.get("licence", content.get("license", ""))),
    )


def _case(root: Path, entry: Any, where: Path) -> Case | None:
    """One entry of a list: ``{"image": ..., "label": ...}``, or a plain path for a test scan; None for ``._`` files."""
    fields = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or "image" not in fields:
        raise UserError(f"{where}: the entry {str(entry)[:80]!r} does not name an image. Correct it.")
    listed = fields["image"] if isinstance(fields["image"], list) else [fields["image"]]
    images = [inside(root, text, where) for text in listed]
    if not images:
        raise UserError(f"{where}: the entry {str(entry)[:80]!r} does not name an image. Correct it.")
    if images[0].name.startswith("._"):
        return None
    label = inside(root, fields["label"], where) if fields.get("label") else None
    # Named after its mask, so that predictions pair with the references by file name.
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
