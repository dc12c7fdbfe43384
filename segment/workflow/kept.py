"""What is known of scans that are predicted, kept in the run folder until every scan is scored.

Scoring that was stopped goes on where it was, and the processes of a training share it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segment.data.case import Case
from segment.files import written_whole
from segment.metrics.detection import Detections


class KeptScans:
    """Counts of voxels and lesions of scans, one file each.

    Args:
        folder: Of the files; created when the first is written.
        settings: Everything but the scan that its prediction depends on; other files are not used.
    """

    def __init__(self, folder: Path, settings: Sequence[Any]) -> None:
        self.folder = folder
        self.settings = repr(tuple(settings))

    def add(self, case: Case, content: str, counts: np.ndarray, lesions: Mapping[str, Detections]) -> None:
        """Keep what is known of a scan, once its mask is written.

        Args:
            case: The scan.
            content: What identifies its bytes.
            counts: From `segment.metrics.precision_recall.threshold_counts`; empty where they are not counted.
            lesions: The lesions of every structure; empty where they are not detected.
        """
        arrays = {"counts": counts}
        for number, part in enumerate(lesions.values()):
            arrays |= {f"scores{number}": part.scores, f"right{number}": part.right}
            arrays[f"references{number}"] = np.array(part.references)
        with written_whole(self._path(case, content)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]

    def find(self, case: Case, content: str, names: Sequence[str]) -> tuple[np.ndarray, dict[str, Detections]] | None:
        """The counts of a scan, and its lesions for every name of a structure; None if it is not kept."""
        try:
            with np.load(self._path(case, content), allow_pickle=False) as arrays:
                counts = arrays["counts"]
                lesions = {name: _lesions(arrays, number) for number, name in enumerate(names)}
        except (OSError, ValueError, LookupError, EOFError):
            return None
        return counts, lesions

    def _path(self, case: Case, content: str) -> Path:
        key = hashlib.sha256(repr((self.settings, case.id, content)).encode()).hexdigest()
        return self.folder / f"{key[:32]}.npz"


def _lesions(arrays: Mapping[str, np.ndarray], number: int) -> Detections:
    references = int(arrays[f"references{number}"])
    return Detections(arrays[f"scores{number}"], arrays[f"right{number}"], references)
