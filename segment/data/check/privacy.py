"""Problems of what a data set tells about patients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from segment.data.case import Dataset
from segment.data.problems import WARNING, Problem
from segment.errors import UserError
from segment.io.dicom.files import is_dicom, walk
from segment.io.dicom.series import contents
from segment.io.formats import is_image_file
from segment.privacy.burned_in import why_not
from segment.privacy.faces import shows_face
from segment.privacy.files import examine
from segment.privacy.values import FACE, PIXELS, UNEXAMINED, Finding
from segment.text import printable

_COPY = "Write copies without it: `segment convert anonymize=true input=FOLDER output=FOLDER`."
_FIXES = {
    "name": "Rename it.",
    "column": "Remove the column.",
    "key": "Remove the key.",
    FACE: "Remove it: `segment convert deface=true input=FOLDER output=FOLDER`.",
    PIXELS: "Look at the pixels. `segment convert anonymize=true` blanks text in PNG and DICOM.",
    UNEXAMINED: "Look at it yourself, or convert it.",
}


def judge_privacy(root: Path, dataset: Dataset | None) -> list[Problem]:
    """Find what a data set tells about patients.

    Args:
        root: Folder or file of the data set.
        dataset: The data set, if it can be opened; its files may lie outside ``root``.

    Returns:
        Warnings of the kind ``privacy``, which never repeat the value; of the files of a DICOM folder, one for each
        attribute.
    """
    cases = [] if dataset is None else [*dataset.cases, *dataset.test_cases]
    reason = why_not()
    unread = (
        [Problem("privacy", str(root), f"Text in pixels is not looked for: it {reason}.", "", WARNING)]
        if reason
        else []
    )
    examined = examine(root, (path for case in cases for path in case.sources))
    scans = [path for case in cases for path in case.images] or _scans_below(root)
    return unread + list(_problems([*examined, *_faces(scans)]))


def _scans_below(root: Path) -> list[Path]:
    """The image files and the DICOM series of a folder that is no data set."""
    files = [root] if root.is_file() else [file for file in walk(root) if is_image_file(file) and not is_dicom(file)]
    series = contents(root).series if root.is_dir() and any(is_dicom(file) for file in walk(root)) else ()
    return [*files, *(item.path for item in series)]


def _faces(scans: Iterable[Path]) -> Iterator[Finding]:
    for path in scans:
        with suppress(UserError):  # a damaged file, which is reported otherwise
            if shows_face(path):
                yield Finding(path, "its voxels", FACE, 0)


def _problems(found: Iterable[Finding]) -> Iterator[Problem]:
    groups: dict[tuple[Path, str, str], list[Finding]] = {}
    for item in found:
        place = item.file.parent if item.field != "name" and is_dicom(item.file) else item.file
        groups.setdefault((place, item.field, item.kind), []).append(item)
    for (_, field, kind), items in groups.items():
        first, more = items[0], len(items) - 1
        size = f" ({first.length} characters)" if first.length else ""
        also = f", as in {more} more file{'' if more == 1 else 's'} of this folder" if more else ""
        what = (
            f"Its name holds {kind}{size}."
            if field == "name"
            else f"It holds {kind}{size} in {printable(field)}{also}."
        )
        yield Problem("privacy", str(first.file), what, _fix(field, kind), WARNING)


def _fix(field: str, kind: str) -> str:
    return _FIXES.get(kind) or _FIXES.get(field.split(" ")[0], _COPY)
