"""Small text files of a run folder, read with an error that names the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segment.text import printable

_NOT_COMPARED = ("output", "hydra", "name", "cache")  # differ between any two runs, so they tell nothing about them


def flatten(config: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Make a nested configuration into one row of a table of hyper-parameters.

    Args:
        config: Nested mappings of plain values.

    Returns:
        Dotted name to number or text; true and false as these words, lists as text, nothing as ``none``, without the
        top level keys that differ between any two runs (``output``, ``name``, ``hydra``, ``cache``) and without the
        paths inside the run folder.
    """
    row: dict[str, str | int | float] = {}
    output = str(config.get("output") or "\0")

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, item in value.items():
                visit(f"{prefix}.{key}" if prefix else str(key), item)
        elif isinstance(value, str) and (value == output or value.startswith(f"{output}/")):
            return
        elif value is None:
            row[prefix] = "none"
        elif isinstance(value, bool):
            row[prefix] = "true" if value else "false"  # torch would write them as 1.0 and 0.0
        else:
            # One infinite or boundless number would break the page for every run.
            number = isinstance(value, int | float) and abs(value) < 1e300
            row[prefix] = value if number else printable(value)

    visit("", {key: value for key, value in config.items() if key not in _NOT_COMPARED})
    return row
