"""What the layouts share: label tables, channel names, safe paths, and the checks of a list of cases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from segment.data.case import Case
from segment.data.formats import is_image_file, stem
from segment.data.images import count_channels, read_label
from segment.data.labels import MAX_LABELS, Labels
from segment.errors import UserError

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_LARGEST_JSON = 64 << 20


def read_json(path: Path) -> dict[str, Any]:
    """Read a ``dataset.json``.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        UserError: When it is too large, is not JSON, or is not an object.
    """
    if path.stat().st_size > _LARGEST_JSON:
        raise UserError(f"{path} is larger than {_LARGEST_JSON >> 20} MB, which no data set description is.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}). Mend it or copy it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object with the data set's description. Mend it.")
    return content


def image_files(folder: Path) -> list[Path]:
    """The image files of one folder, by name; hidden files (macOS's ``._*``) are left out.

    Args:
        folder: A folder; a missing one counts as empty.

    Returns:
        Paths, sorted.
    """
    return sorted(path for path in folder.iterdir() if is_image_file(path)) if folder.is_dir() else []


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Index files by name without format.

    Args:
        files: Paths of one folder.

    Returns:
        Stem to path.

    Raises:
        UserError: When two files differ only in their format.
    """
    found: dict[str, Path] = {}
    for path in files:
        if stem(path) in found:
            raise UserError(
                f"{path} and {found[stem(path)].name} have the same name but for the format. Keep one of them."
            )
        found[stem(path)] = path
    return found


def split_channel(name: str) -> tuple[str, int | None]:
    """Take nnU-Net's channel number off a file stem.

    Args:
        name: For example ``case_0001``.

    Returns:
        ``("case", 1)``; the name itself and None when it does not end in four digits.
    """
    match = _CHANNEL.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, None)


def inside(root: Path, text: object, where: Path) -> Path:
    """A path that a downloaded file names, kept inside the data set's folder.

    Args:
        root: The data set's folder.
        text: The path as written.
        where: The file that names it, for the error.

    Returns:
        ``root / text``.

    Raises:
        UserError: When it is not a relative path inside the folder.
    """
    both = PureWindowsPath(str(text))  # takes / and \ alike, so it holds on every system
    if not isinstance(text, str) or not text or both.anchor or ".." in both.parts or "\0" in text:
        raise UserError(f"{where} names the file {text!r}, which is not a path inside {root}. Correct the entry.")
    return root / text


def label_table(labels: Mapping[Any, Any], where: Path | str, region_order: Sequence[int] | None = None) -> Labels:
    """Bring label names and values into one form, the background first.

    The background is the label called so (in any case), else the one of value 0; when neither is there,
    ``background: 0`` is added.

    Args:
        labels: Name to value, or value (as text) to name, as MSD writes it, or name to the list of values whose union
            is a region; ``ignore`` names the value of voxels that nobody annotated (both as nnU-Net writes them).
        where: The file or key they come from, for errors.
        region_order: The value that each region writes into a mask (nnU-Net's ``regions_class_order``).

    Returns:
        The labels.

    Raises:
        UserError: When the table is no such mapping, repeats a value, has no foreground, or its regions cannot be
            written as a mask.
    """
    if not isinstance(labels, Mapping) or not labels:
        raise UserError(f"{where}: labels must map names to values, for example {{background: 0, liver: 1}}.")
    table: dict[str, int | list[int]] = {}
    for key, value in labels.items():
        turned = isinstance(value, str) and not value.strip().lstrip("-").isdigit()
        name, number = (value, key) if turned else (key, value)
        name = str(name).lower() if str(name).lower() in ("background", "ignore") else str(name)
        if name in table:
            raise UserError(f"{where}: label {name!r} stands twice. Correct the labels.")
        several = isinstance(number, Sequence) and not isinstance(number, str)
        table[name] = [_whole(n, name, where) for n in number] if several else _whole(number, name, where)
    taken = [value for value in table.values() if isinstance(value, int)]
    if "background" not in table and 0 not in taken:
        table["background"] = 0
    first = "background" if "background" in table else next(name for name, value in table.items() if value == 0)
    order = None if region_order is None else [_whole(value, "regions_class_order", where) for value in region_order]
    try:
        found = Labels({first: table.pop(first)} | table, order)
    except ValueError as error:
        raise UserError(f"{where}: {error}. Correct the labels.") from error
    if len(found) < 2:
        raise UserError(f"{where}: there is no label but the background. Name what is to be found.")
    return found


def _whole(number: Any, name: str, where: Path | str) -> int:
    text = str(number).strip()
    if isinstance(number, bool) or not text.lstrip("-").isdigit() or not -(2**31) <= int(text) < 2**31:
        raise UserError(f"{where}: label {name!r} has the value {number!r}, which is not a whole number. Correct it.")
    return int(text)


def found_labels(cases: Iterable[Case]) -> Labels:
    """Name labels after the values found in the masks (reads every mask).

    Args:
        cases: Labelled cases.

    Returns:
        ``{"background": 0, "label_1": 1, ...}``.

    Raises:
        UserError: When the masks cannot be read, hold nothing but 0, or hold too many values to be masks.
    """
    values: set[int] = set()
    last = None
    for case in cases:
        if case.label is None:
            continue
        last = case.label
        values.update(int(value) for value in np.unique(read_label(case.label).array))
        if len(values | {0}) > MAX_LABELS:
            raise UserError(
                f"{case.label}: more than {MAX_LABELS} values, so this is no mask. Name the folder of masks."
            )
    if not values - {0}:
        raise UserError(f"The masks beside {last} hold nothing but 0. Give the labels' values with data.labels.")
    return Labels({"background": 0} | {f"label_{value}": value for value in sorted(values - {0})})


def channel_table(channels: Any, where: Path | str) -> tuple[str, ...]:
    """Bring channel names into order.

    Args:
        channels: A list of names, or a mapping of channel number to name as in ``dataset.json``.
        where: The file or key they come from, for errors.

    Returns:
        Names in channel order.

    Raises:
        UserError: When they are neither.
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


def named_channels(cases: Sequence[Case], channels: Any, where: Path | str) -> tuple[str, ...]:
    """Channel names as given, or by number from the first case.

    Args:
        cases: The data set's cases, not empty.
        channels: What the user gave, or None.
        where: The key it comes from, for errors.

    Returns:
        The names given; ``("image",)`` or ``("channel_0", ...)`` otherwise.
    """
    if channels is not None:
        return channel_table(channels, where)
    first = cases[0].images
    count = len(first) if len(first) > 1 else count_channels(first[0])
    return ("image",) if count == 1 else tuple(f"channel_{number}" for number in range(count))


def checked(cases: Iterable[Case], where: Path) -> tuple[Case, ...]:
    """Sort cases and check that each has a name of its own and files that exist.

    Args:
        cases: Cases in any order.
        where: The file or folder that lists them, for errors.

    Returns:
        The cases, sorted by id.

    Raises:
        UserError: Names the case that repeats another's id, has an id that is no file name, or lacks a file.
    """
    seen: set[str] = set()
    ordered = sorted(cases, key=lambda case: case.id)
    for case in ordered:
        if case.id in seen:
            raise UserError(f"{where}: two cases are called {case.id!r}. Give every case its own name.")
        seen.add(case.id)
        # Predictions are named after the case, so its id may not lead to another folder.
        if not case.id or case.id.startswith(".") or any(sign in case.id for sign in '/\\:*?"<>|\0\n'):
            raise UserError(f"{where}: {case.id!r} cannot be a case's name, since files are named after it. Rename it.")
        for path in (*case.images, *((case.label,) if case.label else ())):
            if not path.is_file():
                raise UserError(
                    f"{where}: case {case.id!r} names {path}, which does not exist. Add it or take the case out."
                )
    return tuple(ordered)
