"""Shared by the layouts: label tables, channel names, safe paths, and checks of a list of cases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from glob import escape
from pathlib import Path, PureWindowsPath
from typing import Any

from segment.arrays import count_values
from segment.data.case import Case, Fold
from segment.data.label_files import named_values
from segment.data.labels import MAX_LABELS, Labels
from segment.data.problems import Problem, Report, raise_errors, reported
from segment.errors import UserError
from segment.io.formats import is_image_file, listed, stem
from segment.io.images import count_channels, read_label, read_label_header

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_WHOLE = re.compile(r"-?\d{1,10}", re.ASCII)
_LARGEST_JSON = 64 << 20

PARTS = {"train": "train", "training": "train", "trainval": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)
"""Names that data sets give to their parts."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a ``dataset.json``.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        UserError: If it is too large, is not JSON, contains a duplicate key, or is not an object.
    """
    if path.stat().st_size > _LARGEST_JSON:
        raise UserError(f"{path} is larger than {_LARGEST_JSON >> 20} MB, too large for a data set description.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique_keys)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}). Fix it or copy it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not contain a JSON object with the data set's description. Fix it.")
    return content


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate keys, of which Python silently uses the last, so that a label would be lost."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is duplicated")
    return content


ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def image_files(folder: Path) -> list[Path]:
    """List the image files of one folder by name, without hidden files (macOS's ``._*``).

    Args:
        folder: A folder; a missing one counts as empty.

    Returns:
        Paths, sorted.
    """
    return sorted(path for path in folder.iterdir() if is_image_file(path)) if folder.is_dir() else []


def by_stem(files: Iterable[Path], report: Report = raise_errors) -> dict[str, Path]:
    """Index files by name without suffix.

    Args:
        files: Paths of one folder.
        report: Receives files whose names differ only in the suffix (the first is used); raises by default.

    Returns:
        Stem to path.
    """
    found: dict[str, Path] = {}
    for path in files:
        known = found.setdefault(stem(path), path)
        if known != path:
            what = f"It has the same name as {known.name} except for the suffix."
            report(Problem("duplicate", str(path), what, "Keep one of them."))
    return found


def split_channel(name: str) -> tuple[str, int | None]:
    """Split nnU-Net's channel number from a file stem.

    Args:
        name: For example ``case_0001``.

    Returns:
        ``("case", 1)``; the name itself and None if it does not end in four digits.
    """
    match = _CHANNEL.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def unread_file(folder: Path, name: str) -> str:
    """Name a file that would be the one looked for if its format were read.

    Args:
        folder: Where it was looked for.
        name: Its name without suffix.

    Returns:
        The end of a sentence; empty if there is no such file.
    """
    there = sorted(folder.glob(f"{escape(name)}.*")) if folder.is_dir() else []
    unread = next((path for path in there if path.is_file() and not is_image_file(path)), None)
    return f" ({unread.name} is there, but its format is not among those read: {listed()})" if unread else ""


def unique_names(files: Sequence[Path]) -> list[str]:
    """Name scans after their files; where names repeat, after the folders above too.

    Args:
        files: One file per scan.

    Returns:
        ``img`` for ``P1/img.nii.gz``; ``P1_img`` and ``P2_img`` if there is ``P2/img.nii.gz`` too. If even whole paths
        repeat, names without folders.
    """
    names = [stem(path) for path in files]
    for depth in range(1, max((len(path.parts) for path in files), default=0) + 1):
        found = ["_".join([*path.parts[-depth:-1], stem(path)]) for path in files]
        if len(set(found)) == len(found):
            return found
    return names


def inside(root: Path, text: object, where: Path) -> Path:
    """Resolve a path from a downloaded file, which must be inside the data set's folder.

    Args:
        root: The data set's folder.
        text: The path as written.
        where: The file that contains it, for the error.

    Returns:
        ``root / text``.

    Raises:
        UserError: If it is not a relative path inside the folder.
    """
    both = PureWindowsPath(str(text))  # accepts / and \, so the check works on every system
    if not isinstance(text, str) or not text or both.anchor or ".." in both.parts or "\0" in text:
        raise UserError(f"{where} names the file {text!r}, which is not a path inside {root}. Correct the entry.")
    return root / text


def label_table(labels: Mapping[Any, Any], where: Path | str, region_order: Sequence[int] | None = None) -> Labels:
    """Normalise a table of label names and values, the background first.

    The background is the label called ``background`` (in any case), else the one of value 0; if there is neither,
    ``background: 0`` is added.

    Args:
        labels: Name to value, or value (as text) to name as in MSD, or name to the list of values whose union is a
            region; ``ignore`` gives the value of unannotated voxels (both as in nnU-Net).
        where: The file or key that they come from, for errors.
        region_order: The value that each region writes into a mask (nnU-Net's ``regions_class_order``).

    Returns:
        The labels.

    Raises:
        UserError: If the table is not such a mapping, repeats a value, has no foreground, or its regions cannot be
            written to a mask.
    """
    if not isinstance(labels, Mapping) or not labels:
        raise UserError(f"{where}: labels must map names to values, for example {{background: 0, liver: 1}}.")
    table: dict[str, int | list[int]] = {}
    for key, value in labels.items():
        swapped = isinstance(value, str) and not _WHOLE.fullmatch(value.strip())
        name, number = (value, key) if swapped else (key, value)
        name = str(name).lower() if str(name).lower() in ("background", "ignore") else str(name)
        if name in table:
            raise UserError(f"{where}: label {name!r} is duplicated. Correct the labels.")
        is_region = isinstance(number, Sequence) and not isinstance(number, str)
        table[name] = [_whole(n, name, where) for n in number] if is_region else _whole(number, name, where)
    used_values = [value for value in table.values() if isinstance(value, int)]
    if "background" not in table and 0 not in used_values:
        table["background"] = 0
    first = "background" if "background" in table else next(name for name, value in table.items() if value == 0)
    order = None if region_order is None else [_whole(value, "regions_class_order", where) for value in region_order]
    try:
        found = Labels({first: table.pop(first)} | table, order)
    except ValueError as error:
        raise UserError(f"{where}: {error}. Correct the labels.") from error
    if len(found) < 2:
        raise UserError(f"{where}: the only label is the background. Add the structures to segment.")
    return found


def _whole(number: Any, name: str, where: Path | str) -> int:
    text = str(number).strip()
    if isinstance(number, bool) or not _WHOLE.fullmatch(text) or not -(2**31) <= int(text) < 2**31:
        raise UserError(f"{where}: label {name!r} has the value {number!r}, which is not an integer. Correct it.")
    return int(text)


def label_names(
    content: Mapping[str, Any], where: Path | str, cases: Sequence[Case], report: Report = raise_errors
) -> Labels:
    """Read the labels of a ``dataset.json``; if they are invalid and `report` does not raise, use the values found.

    Args:
        content: Contains ``labels`` and optionally ``regions_class_order``.
        where: The file that it comes from, for errors.
        cases: Labelled cases.
        report: Receives a problem if the labels are invalid; raises by default.

    Returns:
        The labels.
    """
    with reported(report, "labels", where):
        return label_table(content.get("labels", {}), where, content.get("regions_class_order"))
    return found_labels(cases, lambda problem: None)


def found_labels(cases: Iterable[Case], report: Report = raise_errors, root: Path | None = None) -> Labels:
    """Name labels after the values found in the masks (reads every mask).

    Args:
        cases: Labelled cases.
        root: The data set's folder; a file with the names of the values beside the first mask, or above it, is used.
        report: Receives masks that are skipped since they are unreadable or have too many values, and a problem if
            all masks are 0 everywhere; raises by default.

    Returns:
        ``{"background": 0, "label_1": 1, ...}``, or the names of the file, or else those that the masks give, in place
        of these.
    """
    values: set[int] = set()
    written: dict[int, tuple[str, Path]] = {}  # names in the masks themselves
    first = last = None
    for case in cases:
        if case.label is None:
            continue
        first, last = first or case.label, case.label
        counts: dict[int, int] | None = {}
        with reported(report, "unreadable", case.label):
            counts = count_values(read_label(case.label).array)
            _note_names(read_label_header(case.label).label_names, case.label, written, report)
        present = set(range(MAX_LABELS + 1) if counts is None else counts)
        if len(values | present | {0}) > MAX_LABELS:
            what = f"Together with the other masks it contains more than {MAX_LABELS} values, so it is not a mask."
            report(Problem("not_a_mask", str(case.label), what, "Give the folder of masks."))
            continue
        values |= present
    if not values - {0}:
        none = "No scan has a mask, in which labels could be found."
        what = none if last is None else f"The masks next to {last} contain only 0."
        report(Problem("labels", "data.labels", what, "Give the labels' values with data.labels."))
        values = {1}
    above = [] if first is None or root is None else [folder for folder in first.parents if folder.is_relative_to(root)]
    names = {value: name for value, (name, _) in written.items()}
    names |= named_values(above or [root] if root is not None else [])
    return Labels({"background": 0} | {names.get(value, f"label_{value}"): value for value in sorted(values - {0})})


def _note_names(names: Mapping[int, str], mask: Path, known: dict[int, tuple[str, Path]], report: Report) -> None:
    """Add the names that a mask gives its values; report a value that another mask calls something else."""
    for value, name in names.items():
        other, where = known.setdefault(value, (name, mask))
        if name != other:
            what = f"Its value {value} is {name!r}, but {other!r} in {where.name}."
            report(Problem("labels", str(mask), what, "Number the segments alike in all masks."))


def channel_table(channels: Any, where: Path | str) -> tuple[str, ...]:
    """Normalise channel names to channel order.

    Args:
        channels: A list of names, or a mapping of channel number to name as in ``dataset.json``.
        where: The file or key that they come from, for errors.

    Returns:
        Names in channel order.

    Raises:
        UserError: If they are neither.
    """
    if isinstance(channels, Mapping):
        try:
            numbered = {int(key): str(value) for key, value in channels.items()}
        except (TypeError, ValueError):
            numbered = {}
        if numbered and sorted(numbered) == list(range(len(numbered))):
            return tuple(numbered[key] for key in sorted(numbered))
    elif isinstance(channels, Sequence) and not isinstance(channels, str) and channels:
        return tuple(str(name) for name in channels)
    raise UserError(
        f"{where}: the channels are neither a list of names nor a mapping 0, 1, ... to names: {channels!r}."
    )


def named_channels(
    cases: Sequence[Case], channels: Any, where: Path | str, report: Report = raise_errors
) -> tuple[str, ...]:
    """Channel names as given, or numbered as in the first readable case.

    Args:
        cases: The data set's cases.
        channels: Names from the description or the user, or None.
        where: The file or key that they come from, for errors.
        report: Receives invalid names and unreadable files; raises by default.

    Returns:
        The names given; ``("image",)`` or ``("channel_0", ...)`` otherwise.
    """
    if channels is not None:
        with reported(report, "channels", where):
            return channel_table(channels, where)
    count = 0
    for images in (case.images for case in cases if not count):
        with reported(report, "unreadable", images[0]):
            count = len(images) if len(images) > 1 else count_channels(images[0])
    return ("image",) if count < 2 else tuple(f"channel_{number}" for number in range(count))


def stated_fold(cases: Sequence[Case], parts: Mapping[str, str]) -> tuple[Fold, ...]:
    """The fold of a data set that says which of its scans are for validation.

    Args:
        cases: The labelled cases, without test scans.
        parts: Id of a case to its part; scans of any part but ``val`` are trained on.

    Returns:
        One fold; none if a part of it would be empty.
    """
    val = [case.id for case in cases if parts.get(case.id) == "val"]
    train = [case.id for case in cases if parts.get(case.id) != "val"]
    return ({"train": train, "val": val},) if train and val else ()


def checked(cases: Iterable[Case], where: Path, report: Report = raise_errors) -> tuple[Case, ...]:
    """Sort cases and check that each has a unique name and existing files.

    Args:
        cases: Cases in any order.
        where: The file or folder that lists them, for errors.
        report: Receives cases with a duplicate id, an id that cannot be a file name, or a missing file; raises by
            default.

    Returns:
        The valid cases, sorted by id; a case whose mask is missing is kept without it.
    """
    valid: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: case.id):
        if case.id in valid:
            what = f"Two cases are called {case.id!r}."
            report(Problem("duplicate", str(where), what, "Give each case a unique name."))
            continue
        # Predictions are named after the case, so its id must not point to another folder.
        if not case.id or case.id.startswith(".") or any(sign in case.id for sign in '/\\:*?"<>|\0\n'):
            what = f"{case.id!r} cannot be the name of a case, since files are named after it."
            report(Problem("description", str(where), what, "Rename it."))
            continue
        missing = [path for path in case.files if not path.is_file()]
        for path in missing:
            what = f"The case {case.id!r} uses {path}, which does not exist."
            report(Problem("missing", str(where), what, "Add it or remove the case."))
        if case.label in missing:
            case = replace(case, label=None)
        if not any(path in missing for path in case.images):
            valid[case.id] = case
    return tuple(valid.values())
