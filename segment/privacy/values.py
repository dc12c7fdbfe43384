"""Findings, which never hold the value itself, and what kind of thing a value is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Field = tuple[str, str]
"""Name of a header's field, and its value as text."""

NAME, DATE, ID, PLACE, TEXT, PIXELS, FACE, UNEXAMINED = (
    *("a name", "a date or time", "an ID", "a place", "free text"),
    *("burned-in text", "a face that can be rendered", "content that was not examined"),
)

# Two leading zeros are those of a counter.
_LONG_NUMBER = re.compile(r"(?<!\d)(?<!\d\.)(?!00)\d{6,}(?!\d)")
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATES = re.compile(
    rf"(?<!\d)(?<!\d\.)(?:{_YEAR}([-./:_]?){_MONTH}\1{_DAY}|{_DAY}([-./]){_MONTH}\2{_YEAR})(?:(?!\d)|(?=\d{{6}}(?!\d)))"
)
_PERSON = re.compile(r"[^\W\d]{2,}\^[^\W\d]*|\b[A-Z][a-z]+, ?[A-Z][a-z]+\b")
_WORDS = re.compile(
    r"(?<![a-z])(mrn|dob|ssn|nhs|birth|born|(?:sur|(?:first|last|full|patient|family|given)[ _-]?)name)(?![a-z])", re.I
)
_OF_FIELDS = (
    (PIXELS, re.compile("BurnedInAnnotation")),
    (PLACE, re.compile(r"gps|address|city|country|region_of|latitude|longitude|residence|email|phone|telephone", re.I)),
    (DATE, re.compile(r"date|birth|time|\bdob\b|created|\bday\b", re.I)),
    (ID, re.compile(r"(?:ID|[ _-]id|UIDs?)$|^id$|identif|number|\bmrn\b|medical.?record|accession|serial", re.I)),
    (
        NAME,
        re.compile(r"(?<!db_)(?<!intent_)names?$|author|artist|physician|operator|creator|owner", re.I),
    ),
)


@dataclass(frozen=True)
class Finding:
    """Something that a file tells about a patient.

    Attributes:
        file: The file, or the folder whose name tells it.
        field: Field of the header, column of the table, or ``name``.
        kind: What it is, such as ``a date or time``.
        length: Number of characters; 0 where that means nothing.
    """

    file: Path
    field: str
    kind: str
    length: int


def kind_of(field: str, text: str) -> str:
    """What kind of thing a field holds.

    Args:
        field: Its name.
        text: Its value.

    Returns:
        `PLACE`, `DATE`, `ID`, `NAME` or `TEXT`; what the field's name says comes before what the value looks like.
    """
    named = next((kind for kind, pattern in _OF_FIELDS if pattern.search(field)), None)
    return named or looks_like(text) or TEXT


def looks_like(text: str) -> str | None:
    """What kind of thing about a patient a text contains by its form; None if it shows none.

    Args:
        text: A value, a file name or a cell of a table.
    """
    if _DATES.search(text):
        return DATE
    if _LONG_NUMBER.search(text):
        return ID
    return NAME if _PERSON.search(text) or _WORDS.search(text) else None


def finding(file: Path, field: str, text: str) -> Finding:
    """Describe a value without repeating it.

    Args:
        file: Its file.
        field: Its field.
        text: The value.
    """
    return Finding(file, field, kind_of(field, text), len(text))


def findings_in_names(root: Path, files: list[Path]) -> Iterator[Finding]:
    """Find dates, long numbers and names of persons in the names of files and folders below a root.

    Args:
        root: Folder whose own name and place are not part of the data set.
        files: Files in it.

    Yields:
        One for each file or folder, in order.
    """
    seen: set[Path] = set()
    for file in files:
        parents = [folder for folder in file.parents if folder.is_relative_to(root) and folder != root]
        for path in (*reversed(parents), file):
            if path not in seen:
                seen.add(path)
                kind = looks_like(path.name)
                if kind is not None:
                    yield Finding(path, "name", kind, len(path.name))
