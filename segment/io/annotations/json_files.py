"""Untrusted JSON, whose every value may be of any type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.io.annotations.shapes import read_bytes


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON file whose top level is an object.

    Args:
        file: The file.

    Raises:
        UserError: If it is damaged or holds something else.
    """
    try:
        content = json.loads(read_bytes(file))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON ({error}). Fix it or export it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} does not contain a JSON object. Give a file of annotations.")
    return content


def items(content: Any, key: str) -> list[dict[str, Any]]:
    """The objects in a list of an object; empty if there is no such list."""
    listed = content.get(key) if isinstance(content, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def whole(entry: dict[str, Any], key: str) -> int:
    """A whole number of an object; 0 if there is none."""
    value = entry.get(key)
    return value if type(value) is int else 0
