"""A journal of the masks that are written: a prediction goes on where it was stopped, and processes share its scans."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segment.errors import UserError
from segment.files import plain, read_mapping, write_json
from segment.io.content import hash_scans
from segment.locks import holding

FILE = "predictions.part"
RECORD = "predictions.json"
MAX_BYTES = 1 << 28  # some 400,000 masks


class Journal:
    """A file in the folder of the masks to which every mask is added once written, by all processes that write there.

    Args:
        output: The folder.
        settings: What a mask depends on but the scan, as JSON has it.
        since: Masks that were written before are not known, in seconds since the epoch.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], since: float = 0.0) -> None:
        self.output, self.since = output, since
        self.key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.known: dict[str, dict[str, Any]] = {}
        self._read = (0, 0)  # number of the file, and bytes that are read of it
        self._record: list[int] | None = None  # its state when it was read

    def require_same(self, names: Sequence[str]) -> None:
        """Refuse masks that a prediction with other settings has left.

        Args:
            names: The masks that are to be written.

        Raises:
            UserError: When one of them is there.
        """
        there = [name for name in names if (self.output / name).exists()]
        self._refresh()  # after they were looked for, since a mask is noted before it is written
        if others := [name for name in there if name not in self.known]:
            raise UserError(
                f"output={self.output}: the mask {others[0]} is from an interrupted prediction with another model or "
                "other settings, or from one at work. Repeat that command to complete it, give another folder, or "
                "overwrite=true."
            )

    def find(self, name: str, images: Sequence[Path]) -> dict[str, Any] | None:
        """What is recorded of a scan whose mask is there, unchanged like its images; None if there is none."""
        self._refresh()
        entry, state = self.known.get(name), _state(self.output / name)
        if entry is None or state is None or entry["state"] != state or state[1] < self.since * 1e9:
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

    def complete(self, record: Mapping[str, Any]) -> bool:
        """Write the record in place of the journal: all masks are written.

        Args:
            record: Its content; ``scans`` has what is recorded of each.

        Returns:
            Whether it was written; False if another process has written the same.
        """
        with self._alone():
            there = self._recorded()
            if there is not None and there.get("scans") == plain(record["scans"]):
                return False
            write_json(self.output / RECORD, {**record, "key": self.key})
            (self.output / FILE).unlink(missing_ok=True)
            return True

    def _alone(self) -> contextlib.AbstractContextManager[bool]:
        """Hold journal and record for a block; not all file systems append whole lines."""
        return holding(self.output / f".{FILE}.lock")

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._alone(), (self.output / FILE).open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(entry)}\n")  # the first end of a line is that of one that was cut

    def _refresh(self) -> None:
        """Read what has been added, or the record in place of the journal."""
        try:
            with (self.output / FILE).open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size > MAX_BYTES:
                    return
                start = self._read[1] if self._read[0] == status.st_ino and self._read[1] <= status.st_size else 0
                file.seek(start)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            before, self._record = self._record, _state(self.output / RECORD)
            if self._record != before:
                for name, made in (self._recorded() or {}).get("scans", {}).items():
                    self.known[name] = {"key": self.key, "state": _state(self.output / name), "made": made}
            return
        self._read = (status.st_ino, start + len(whole))
        found = _entries(whole.decode("utf-8", errors="replace"))
        self.known |= {name: entry for name, entry in found.items() if entry["key"] == self.key}

    def _recorded(self) -> dict[str, Any] | None:
        """The record, if it is of the same settings."""
        with contextlib.suppress(UserError):
            content = read_mapping(self.output / RECORD)
            scans = content.get("scans")
            if content.get("key") == self.key and isinstance(scans, dict):
                return content | {"scans": {name: made for name, made in scans.items() if isinstance(made, dict)}}
        return None


def interrupted(output: Path) -> set[str]:
    """Names of the masks in a folder that an interrupted prediction, or one at work, has written, unchanged since."""
    path = output / FILE
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        return set()
    found = _entries(path.read_text(encoding="utf-8", errors="replace"))
    return {name for name, entry in found.items() if entry["state"] in (None, _state(output / name))}


def _entries(text: str) -> dict[str, dict[str, Any]]:
    """The entries by name of the mask; lines that are not whole are ignored."""
    found = dict[str, dict[str, Any]]()
    for line in text.splitlines():
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
