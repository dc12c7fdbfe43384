"""Data sets that are made, not measured: written whole or not at all, and known again by a stamp in dataset.json."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from segment.errors import UserError


def made_once(path: Path, what: str, key: str, stamp: Mapping[str, Any], write: Callable[[Path], dict]) -> None:
    """Make a data set where there is none; where there is one, make sure that it is the same.

    Args:
        path: Folder of the data set.
        what: What it is called in messages, e.g. ``the demo set``.
        key: Entry of dataset.json that holds the stamp.
        stamp: Everything the files depend on; plain numbers, words and lists.
        write: Fills a folder, in which ``imagesTr`` and ``labelsTr`` are there, and returns the rest of dataset.json.

    Raises:
        UserError: When the folder holds something else, or the set with another stamp.
    """
    if path.exists():
        _require_stamp(path, what, key, stamp)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        for part in ("imagesTr", "labelsTr"):
            (aside / part).mkdir()
        described = write(aside) | {key: stamp}
        (aside / "dataset.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        aside.chmod(0o755)  # mkdtemp's folders are private
        try:
            aside.rename(path)
        except OSError:  # a second process was faster; its scans are the same
            _require_stamp(path, what, key, stamp)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _require_stamp(path: Path, what: str, key: str, stamp: Mapping[str, Any]) -> None:
    try:
        found = json.loads((path / "dataset.json").read_text(encoding="utf-8")).get(key)
    except (OSError, ValueError, AttributeError):
        found = None
    if found != stamp:
        held = f"{what} {found}" if found else f"something other than {what}"
        raise UserError(f"{path} holds {held}, not {dict(stamp)}. Choose another data.root, or delete the folder.")
