"""Names of the series in a folder, after folders and numbers: nothing of the patient is in them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from segment.io.dicom.series import Contents, Series

_UNUSUAL = re.compile(r"[^\w.-]+")


def named_series(root: Path, series: Sequence[Series]) -> dict[str, Series]:
    """Name series after their folders.

    Args:
        root: The folder in which they were found.
        series: The series.

    Returns:
        ``FOLDER_SUBFOLDER`` below the root, or the root's own name. Where a folder has several, the series number is
        added, and counted if they share that too; one in a single file, such as an X-ray image, has the file's name.
        Sorted by name.
    """
    folders: dict[Path, list[Series]] = defaultdict(list)
    for item in series:
        folders[item.path.parent.relative_to(root)].append(item)
    found: dict[str, Series] = {}
    for folder, items in folders.items():
        for item in items:
            if len(items) == 1:
                parts = folder.parts or (root.absolute().name,)
            elif len(item.files) == 1:
                parts = (*folder.parts, item.path.name.removesuffix(".dcm"))
            else:
                parts = (*(folder.parts or (root.absolute().name,)), item.number or "series")
            found[_unused(parts, found)] = item
    return dict(sorted(found.items()))


def named_studies(root: Path, studies: Iterable[Sequence[Series]]) -> dict[str, Sequence[Series]]:
    """Name studies after the folder that their series have in common.

    Args:
        root: The folder in which they were found.
        studies: The series of each study.

    Returns:
        As `named_series`, counted where several studies lie in one folder.
    """
    found: dict[str, Sequence[Series]] = {}
    for items in studies:
        shared = Path(os.path.commonpath([item.path.parent for item in items])).relative_to(root)
        found[_unused(shared.parts or (root.absolute().name,), found)] = items
    return dict(sorted(found.items()))


def _unused(parts: Sequence[str], known: Collection[str]) -> str:
    """A name of folders, counted if it is known."""
    name = own = _UNUSUAL.sub("-", "_".join(parts)).lstrip(".-") or "series"
    count = 1
    while own in known:
        count += 1
        own = f"{name}-{count}"
    return own


def notes_of(found: Contents) -> list[str]:
    """Sentences about what in a folder is no scan, and about what was assumed of the scans.

    Args:
        found: What the folder contains.
    """
    notes = []
    for item in found.left_out:
        more = f" and {len(item.files) - 1} more" if len(item.files) > 1 else ""
        notes.append(f"{item.files[0]}{more}: left out, {item.reason}.")
    notes += [f"{series.path}: {note}" for series in found.series for note in series.stack.notes]
    return notes
