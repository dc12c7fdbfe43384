"""Columns of tables and keys of JSON files beside scans that tell something about patients."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from segment.privacy.profile import ACTIONS
from segment.privacy.values import DATE, NAME, Field, looks_like

TABLES = (".csv", ".tsv")
JSON = ".json"
_ROWS = 200  # that are looked at
_MOST_BYTES = 1 << 20
_COLUMNS = re.compile(
    r"(patient|first|last|full|given|family|sur)?[ _-]?name|mrn|medical[ _-]?record.*|accession.*|.*birth.*|dob"
    r"|.*address.*|e-?mail|phone.*|patient[ _-]?id|ssn|.*date|hospital.*|.*physician.*",
    re.IGNORECASE,
)


def find(path: Path) -> Iterator[Field]:
    """Find columns by their names and by what their first rows hold, or keys of a JSON file.

    Args:
        path: ``.csv``, ``.tsv`` or ``.json``; untrusted.

    Yields:
        Column or key, and its first value that tells something.
    """
    with path.open("rb") as stream:
        text = stream.read(_MOST_BYTES).decode("utf-8", "replace").removeprefix("\ufeff")
    if path.suffix.lower() == JSON:
        yield from _keys(text)
        return
    lines = text.splitlines()
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;", key=(lines or [""])[0].count)
    try:
        rows = list(itertools.islice(csv.reader(lines, delimiter=delimiter), _ROWS))
    except csv.Error:  # not a table
        return
    for number, name in enumerate(rows[0] if rows else []):
        values = [row[number] for row in rows[1:] if number < len(row) and row[number].strip()]
        telling = (
            values
            if _COLUMNS.fullmatch(name.strip())
            else [value for value in values if looks_like(value) in (DATE, NAME)]
        )
        if telling:
            yield f"column {name.strip()}", telling[0]


def _keys(text: str) -> Iterator[Field]:
    """Keys of a file as converters of DICOM write them, named after attributes."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # no description of a scan
        return
    for key, value in content.items() if isinstance(content, dict) else ():
        if key in ACTIONS and value not in ("", None):
            yield f"key {key}", str(value)
