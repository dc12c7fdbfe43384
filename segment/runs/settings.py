"""One run folder holds one configuration: whether a folder is free for a run, and in what two configurations differ."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from segment.errors import UserError
from segment.files import read_mapping, write_text

# A run may be taken up again with other values of these and of what lies below: they do not change its numbers.
FREE = (
    "cache",
    "formats",
    "metrics",
    "sampler.workers",
    "trainer.max_time",
    "trainer.log_every_n_steps",
    "data.root",
    "output",
    "name",
    "logger",
)


def check_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Check that a run folder is new or holds a run of this very configuration.

    Args:
        folder: The run folder; need not exist.
        settings: The run's resolved configuration.

    Raises:
        UserError: When the folder holds something else, naming the keys that differ.
    """
    path = folder / "config.yaml"
    if path.exists():
        changed = differences(read_mapping(path), settings)
        if changed:
            shown = "; ".join(f"{key} is {there} there and {here} here" for key, there, here in changed[:3])
            raise UserError(
                f"output={folder}: holds a run of another configuration ({shown}). "
                "Give another output= or name=, or the same configuration to go on with it."
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output={folder}: is there and is no run folder. Give another output= or name=.")


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the resolved configuration of a run into its folder as ``config.yaml``; see `check_folder`."""
    check_folder(folder, settings)
    write_text(folder / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))
    # What a kill left half-written; a strategy's child processes leave it to the first one.
    for partial in folder.rglob(".partial-*") if "LOCAL_RANK" not in os.environ else ():
        partial.unlink()


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[tuple[str, str | None, str | None]]:
    """In what a run folder's configuration is another one than this, apart from what does not change its numbers.

    Args:
        there: Content of its ``config.yaml``.
        here: A run's resolved configuration.

    Returns:
        (dotted key, its value there, its value here), None where there is no such key, sorted by key.
    """
    before, now = _flat(there), _flat(here)
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return [
        (key, before.get(key), now.get(key))
        for key in changed
        if not any(f"{key}.".startswith(f"{free}.") for free in FREE)
    ]


def _flat(config: Mapping[str, Any]) -> dict[str, str]:
    """Dotted key to the value's text, without the paths inside the run folder: they follow from ``output``."""
    inside = f"{config.get('output')}/"
    return {key: str(value) for key, value in leaves(config) if not f"{value}/".startswith(inside)}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in nested mappings and lists that is neither."""
    if not isinstance(node, Mapping | list):
        yield prefix, node
        return
    for key, child in node.items() if isinstance(node, Mapping) else enumerate(node):
        yield from leaves(child, f"{prefix}.{key}" if prefix else str(key))
