"""Synthetic data sets: written all or nothing and identified by a stamp in dataset.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.files import partial_folder


def create_once(path: Path, what: str, key: str, stamp: Mapping[str, Any], write: Callable[[Path], dict]) -> None:
    """Create a data set, or check that an existing one is the same.

    Args:
        path: Folder of the data set.
        what: Its name in messages, e.g. ``the demo set``.
        key: Key of the stamp in dataset.json.
        stamp: Everything that the files depend on; plain numbers, strings and lists.
        write: Fills a folder with existing ``imagesTr`` and ``labelsTr``; returns the rest of dataset.json.

    Raises:
        UserError: If the folder contains something else, or the data set with another stamp.
    """
    if path.exists():
        _require_stamp(path, what, key, stamp)
        return
    with partial_folder(path.parent) as temporary:
        for part in ("imagesTr", "labelsTr"):
            (temporary / part).mkdir()
        described = write(temporary) | {key: stamp}
        (temporary / "dataset.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)  # a temporary folder is private
        try:
            temporary.rename(path)
        except OSError:  # another process was faster; its scans are the same
            _require_stamp(path, what, key, stamp)


def _require_stamp(path: Path, what: str, key: str, stamp: Mapping[str, Any]) -> None:
    try:
        found = json.loads((path / "dataset.json").read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        found = None
    if found != stamp:
        content = f"{what} {found}" if found else f"something other than {what}"
        raise UserError(
            f"{path} contains {content}, not {dict(stamp)}. Choose another data.root, or delete the folder."
        )
