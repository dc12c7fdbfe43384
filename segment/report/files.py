"""Small text files of a run folder, read with an error that names the file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from segment.errors import UserError
from segment.plain_yaml import PlainLoader

_NOT_COMPARED = ("output", "hydra", "name", "cache")  # differ between any two runs, so they tell nothing about them


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON or YAML file (by its suffix) whose top level is a mapping.

    Args:
        path: A ``.json``, ``.yaml`` or ``.yml`` file. YAML is read by the safe loader: it can make plain values only.

    Returns:
        The mapping.

    Raises:
        UserError: The file is missing, cannot be parsed or holds something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=PlainLoader)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Is this the folder of a finished run?") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged ({reason}). Write it anew by running the command again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold named values but holds a {type(content).__name__}.")
    return content


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold: NaN and infinities become None, unknown objects their text.

    Args:
        value: Any nesting of mappings, sequences, numbers (also NumPy's) and other objects.

    Returns:
        The same nesting of dict, list, str, int, float, bool and None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def printable(text: object) -> str:
    """Make text from a file safe to print: a terminal would obey control characters.

    Args:
        text: Any object; its text is taken.

    Returns:
        The text with every control character, line ends too, replaced by U+FFFD.
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


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
