"""Names of the values in masks, as programs write them into a file beside the masks.

Read are ITK-SNAP's label descriptions (``*.label``, ``*.lbl`` or ``*.txt``), BIDS' tables (``*dseg.tsv``),
``labels.json`` with ``{"liver": 1}`` or ``{"1": "liver"}``, and the ``predictions.json`` beside predicted masks.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from segment.text import printable

_LARGEST = 1 << 26  # bytes of such a file
_MOST = 64  # such files that are looked into, per folder
_LONGEST = 100  # characters of a name
_VALUE = re.compile(r"[0-9]{1,9}")
_ITK_SNAP = re.compile(r'\s*(\d{1,9})(?:\s+\d{1,3}){3}\s+[\d.]+\s+[01]\s+[01]\s+"([^"]*)"\s*')


def named_values(folders: Iterable[Path]) -> dict[int, str]:
    """Names of values from the first file in the folders that holds any.

    Args:
        folders: Where to look, in this order; files within a folder by name.

    Returns:
        Value to name, without the background (value 0) and without repeated names; empty if there is no such file.
    """
    for folder in folders:
        for path in _candidates(folder):
            names = {
                value: " ".join(printable(name).split())[:_LONGEST] for value, name in _read(path).items() if value
            }
            counts = Counter(names.values())
            unique = {value: name for value, name in names.items() if counts[name] == 1}
            named = {
                value: name for value, name in unique.items() if name and name.lower() not in ("background", "ignore")
            }
            if named:
                return named
    return {}


def _candidates(folder: Path) -> list[Path]:
    endings = (".label", ".lbl", ".txt", "dseg.tsv")
    files = [path for path in folder.iterdir() if path.name.endswith(endings)] if folder.is_dir() else []
    described = (folder / name for name in ("labels.json", "predictions.json"))
    return [path for path in (*described, *sorted(files)[:_MOST]) if path.is_file()]


def _read(path: Path) -> dict[int, str]:
    """Value to name; empty for a file that is something else."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_LARGEST).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return {}
    if path.suffix == ".json":
        return _of_json(text)
    if path.suffix == ".tsv":
        rows = csv.DictReader(text.splitlines(), delimiter="\t")
        try:
            listed = [(str(row.get("index", "")).strip(), row.get("name")) for row in rows]
        except csv.Error:
            return {}
        return {int(index): name for index, name in listed if _VALUE.fullmatch(index) and name}
    matches = (_ITK_SNAP.fullmatch(line) for line in text.splitlines())
    return {int(match[1]): match[2] for match in matches if match}


def _of_json(text: str) -> dict[int, str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    content = content.get("labels", content) if isinstance(content, Mapping) else {}
    found = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        name, number = (value, key) if isinstance(value, str) and _VALUE.fullmatch(str(key)) else (key, value)
        if _VALUE.fullmatch(str(number)) and isinstance(name, str) and not isinstance(number, bool):
            found[int(number)] = name
    return found
