"""A journal of the masks that are written, so that a prediction that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from segment.errors import UserError
from segment.io.content import hash_scans

FILE = "predictions.part"
MAX_BYTES = 1 << 28  # some 400,000 masks


class Journal:
    """A file in the folder of the masks to which every written mask is added at once; open within a ``with`` block.

    Args:
        output: The folder.
        settings: What a mask depends on but the scan, as JSON has it.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.output = output
        self.key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.known = {name: entry for name, entry in _entries(output).items() if entry["key"] == self.key}
        self.file: TextIO | None = None

    def require_same(self, names: Sequence[str]) -> None:
        """Refuse masks that an interrupted prediction with other settings has left.

        Args:
            names: The masks that are to be written.

        Raises:
            UserError: When one of them is there.
        """
        others = [name for name in names if (self.output / name).exists() and name not in self.known]
        if others:
            raise UserError(
                f"output={self.output}: the mask {others[0]} is from an interrupted prediction with another model or "
                "other settings. Repeat that command to complete it, give another folder, or overwrite=true."
            )

    def find(self, name: str, images: Sequence[Path]) -> dict[str, Any] | None:
        """What is recorded of a scan whose mask is there, unchanged like its images; None if there is none."""
        entry = self.known.get(name)
        if entry is None or entry["state"] != _state(self.output / name):
            return None
        made: dict[str, Any] = entry["made"]
        return made if made.get("sha256") == hash_scans([image.absolute() for image in images]) else None

    def begin(self, name: str) -> None:
        """Note that a mask is about to be written, in case the process is killed before `add`."""
        self._append({"key": self.key, "name": name, "state": None, "made": {}})

    def add(self, name: str, made: Mapping[str, Any]) -> None:
        """Add a mask once it is written.

        Args:
            name: Of its file.
            made: What is recorded of its scan.
        """
        self._append({"key": self.key, "name": name, "state": _state(self.output / name), "made": made})

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self.file is None:
            self.file = (self.output / FILE).open("a", encoding="utf-8")
            self.file.write("\n")  # ends a line that was cut
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()

    def remove(self) -> None:
        """Remove the file: all masks are written and recorded."""
        self.__exit__()
        (self.output / FILE).unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


def interrupted(output: Path) -> set[str]:
    """Names of the masks in a folder that an interrupted prediction has written, unchanged since."""
    return {name for name, entry in _entries(output).items() if entry["state"] in (None, _state(output / name))}


def _entries(output: Path) -> dict[str, dict[str, Any]]:
    """The entries by name of the mask; lines that are not whole are ignored."""
    path, found = output / FILE, dict[str, dict[str, Any]]()
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            found[str(entry["name"])] = {"key": entry["key"], "state": entry["state"], "made": dict(entry["made"])}
        except (ValueError, LookupError, TypeError):
            continue
    return found


def _state(mask: Path) -> list[int] | None:
    """Size and time of change of a mask; None if it is not there."""
    try:
        status = mask.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
