"""A journal of the scans that are scored, so that scoring that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from segment import __version__
from segment.data.labels import Labels
from segment.metrics.metric import Metric

FILE = "scores.part"

Scored = tuple[np.ndarray, list[dict[str, Any]]]
"""Voxels by class of reference and prediction, and one row per label."""


class Journal:
    """A file to which every scored scan is added at once, open within a ``with`` block.

    A scan is taken from it only if its files (size, time of change), the metrics, labels and tolerances are those with
    which it was scored.

    Args:
        path: The file; None: nothing is kept.
        labels: The labels of the masks.
        metrics: The metrics.
        tolerance: Tolerances of the structures.
        others: Journals of other processes, whose scans are known too.
    """

    def __init__(
        self,
        path: Path | None,
        labels: Labels,
        metrics: Sequence[Metric],
        tolerance: Mapping[str, float],
        others: Sequence[Path] = (),
    ) -> None:
        self.path = path
        described = [labels.declared, list(labels.region_order), dict(tolerance), *map(_described, metrics)]
        self.settings = hashlib.sha256(repr((__version__, described)).encode()).hexdigest()
        self.known: dict[str, dict[str, Any]] = {}
        for known in (*others, *([path] if path else [])):
            self.known |= self._read(known)
        self.file: TextIO | None = None

    def find(self, pair: tuple[str, Path, Path]) -> Scored | None:
        """The scores of a scan; None if it is not in the journal."""
        entry = self.known.get(self._key(pair))
        return None if entry is None else (np.array(entry["counts"], np.int64), entry["rows"])

    def add(self, pair: tuple[str, Path, Path], scored: Scored) -> None:
        """Add a scan."""
        if self.path is None:
            return
        if self.file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a", encoding="utf-8")
            self.file.write("\n")  # ends a line that was cut
        json.dump({"key": self._key(pair), "counts": scored[0].tolist(), "rows": scored[1]}, self.file)
        self.file.write("\n")
        self.file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def _key(self, pair: tuple[str, Path, Path]) -> str:
        case, *files = pair
        states = [(str(file.absolute()), (state := file.stat()).st_size, state.st_mtime_ns) for file in files]
        return hashlib.sha256(repr((self.settings, case, states)).encode()).hexdigest()

    @staticmethod
    def _read(path: Path) -> dict[str, dict[str, Any]]:
        """The entries by key; lines that are not whole are ignored."""
        found = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                entry = json.loads(line)
                found[entry["key"]] = {"counts": entry["counts"], "rows": entry["rows"]}
            except (ValueError, LookupError, TypeError):
                continue
        return found


def _described(metric: Metric) -> tuple[str, str]:
    """The code and the parameters of a metric, as far as they can be told."""
    try:
        code = inspect.getsource(type(metric))
    except (OSError, TypeError):
        code = f"{type(metric).__module__}.{type(metric).__qualname__}"
    return code, repr(sorted(vars(metric).items()))
