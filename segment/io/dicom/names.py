"""Names of the series in a folder, after folders and numbers: nothing of the patient is in them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from segment.io.dicom.series import Contents, Series

_UNUSUAL = re.compile(r"[^\w.-]+")


def named_series(root: Path, series: Sequence[Series]) -> dict[str, Series]:
    """Name series after their folders.

    Args:
        root: The folder in which they were found.
        series: The series.

    Returns:
        ``FOLDER_SUBFOLDER`` below the root, or the root's own name, with the series number where a folder has several,
        and counted where they share that too; sorted by name.
    """
    folders: dict[str, list[Series]] = defaultdict(list)
    for item in series:
        parts = item.path.parent.relative_to(root).parts or (root.absolute().name,)
        folders[_UNUSUAL.sub("-", "_".join(parts)).lstrip(".-") or "series"].append(item)
    found: dict[str, Series] = {}
    for name, items in folders.items():
        for item in items:
            own = name if len(items) == 1 else f"{name}_{_UNUSUAL.sub('-', item.number) or 'series'}"
            count = 2
            while own in found:
                own, count = f"{own.removesuffix(f'-{count - 1}')}-{count}", count + 1
            found[own] = item
    return dict(sorted(found.items()))


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
