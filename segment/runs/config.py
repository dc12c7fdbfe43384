"""The configuration of a run as a flat table of hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segment.text import printable

_NOT_COMPARED = ("output", "hydra", "name", "cache")  # differ between any two runs, so they carry no information


def flatten(config: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Flatten a nested configuration into one row of a table of hyperparameters.

    Args:
        config: Nested mappings of plain values.

    Returns:
        Dotted name to number or text: booleans as ``true`` and ``false``, lists as text, None as ``none``. Top-level
        keys that differ between any two runs (``output``, ``name``, ``hydra``, ``cache``) and paths inside the run
        folder are left out.
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
            # One infinite or huge number would break the page for every run.
            number = isinstance(value, int | float) and abs(value) < 1e300
            row[prefix] = value if number else printable(value)

    visit("", {key: value for key, value in config.items() if key not in _NOT_COMPARED})
    return row
