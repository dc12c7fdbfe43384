"""Predicts the scans of a run with its saved model: masks on disk, and what is counted of each scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from segment.data.case import Case
from segment.data.labels import IGNORE, Labels
from segment.inference.predictor import Predictor, Prepared
from segment.io.formats import mask_suffix
from segment.io.images import write_label
from segment.metrics.detection import Detections
from segment.metrics.precision_recall import THRESHOLDS, threshold_counts
from segment.parallel import overlapped
from segment.preprocessing.chunks import Chunked
from segment.preprocessing.store import Store
from segment.workflow.detection import LesionFinder
from segment.workflow.kept import KeptScans


@dataclass(frozen=True)
class Predicted:
    """A mask on the scan's grid in the file's values, the counts of `threshold_counts`, lesions by structure."""

    mask: np.ndarray
    counts: Tensor
    lesions: dict[str, Detections]


@dataclass(frozen=True)
class ScanPredictor:
    """Predicts scans and writes their masks.

    Attributes:
        predictor: The predictor.
        store: The store of the prepared scans.
        kept: Keeps what is known of each scan; scans that it has are not predicted again.
        folder: For the masks, on the scans' own grids.
        prepared: Whether the scans are in the store, and voxels are counted; else they are read from their files.
        lesions: Finds the lesions of the scans; None: they are not sought.
    """

    predictor: Predictor
    store: Store
    kept: KeptScans
    folder: Path
    prepared: bool = True
    lesions: LesionFinder | None = None

    def predict(self, cases: Sequence[Case], said: str, shown: bool = True) -> None:
        """Predict those scans that are not kept; the next is read and the last is written meanwhile.

        Args:
            cases: The scans.
            said: What the progress bar says.
            shown: Whether to show it.
        """
        left = [case for case in cases if not (self.mask(case).is_file() and self._find(case))]
        done = overlapped(self._read, self._predict, self._write, left)
        for _ in track(done, said, total=len(left), console=Console(stderr=True), disable=not shown):
            pass

    def mask(self, case: Case) -> Path:
        """The file of a scan's mask."""
        return self.folder / f"{case.id}{mask_suffix(_label(case))}"

    def pairs(self, cases: Sequence[Case]) -> list[tuple[str, Path, Path]]:
        """(case id, mask file, reference file) of scans."""
        return [(case.id, self.mask(case), _label(case)) for case in cases]

    def counted(self, cases: Sequence[Case]) -> tuple[np.ndarray, dict[str, dict[str, Detections]]]:
        """What was found in scans that are predicted.

        Returns:
            The sum of their counts, (structure, 2, THRESHOLDS) int64; and the lesions of every structure in each scan,
            by its id, empty where they are not sought.
        """
        structures = self.store.dataset.labels.structures
        total = np.zeros((len(structures), 2, THRESHOLDS), np.int64)
        parts: dict[str, dict[str, Detections]] = {name: {} for name in structures if self.lesions}
        for case in cases:
            found = self._find(case)
            assert found is not None
            total += found[0]
            for name, own in parts.items():
                own[case.id] = found[1][name]
        return total, parts

    def _find(self, case: Case) -> tuple[np.ndarray, dict[str, Detections]] | None:
        names = list(self.store.dataset.labels.structures) if self.lesions else []
        return self.kept.find(case, self.store.path(case).name, names)

    def _read(self, case: Case) -> Prepared:
        if not self.prepared:
            return self.predictor.read(case.images)
        image, placement = self.store.whole(case)
        return self.predictor.on_device(image), placement

    def _predict(self, case: Case, prepared: Prepared) -> Predicted:
        labels, grid = self.store.dataset.labels, prepared[1].grid
        counts = torch.zeros(len(labels.structures), 2, THRESHOLDS, dtype=torch.int64)
        counter = Counter(labels, self.store.load(case).reference, counts) if self.prepared else None
        room = self.lesions.room(grid) if self.lesions else None
        mask = self.predictor.predict_read(case.images, prepared, counter, room)
        found = self.lesions.find(case, grid, mask, room) if self.lesions and room is not None else {}
        return Predicted(labels.decode(mask), counts, found)

    def _write(self, case: Case, predicted: Predicted) -> None:
        write_label(self.mask(case), predicted.mask, like=case.images[0])
        self.kept.add(case, self.store.path(case).name, predicted.counts.numpy(), predicted.lesions)


def _label(case: Case) -> Path:
    assert case.label is not None
    return case.label


class Counter:
    """Counts the voxels of a scan by probability while it is predicted.

    Args:
        labels: What the outputs stand for.
        reference: Class indices on the plan's grid.
        counts: To which those of the scan are added, see `threshold_counts`.
    """

    def __init__(self, labels: Labels, reference: Chunked | None, counts: Tensor) -> None:
        assert reference is not None
        whole = torch.from_numpy(reference[...])
        self.labels = labels
        self.truth = whole[None] if whole.ndim == 2 else whole
        self.counts = counts

    def __call__(self, axis: int, index: int, plane: Tensor) -> None:
        """Count the voxels of a plane (output, *plane)."""
        truth = self.truth.select(axis, index).to(plane.device)
        structures, regions = self.labels.structures, bool(self.labels.regions)
        self.counts += threshold_counts(plane, truth, structures, regions, IGNORE).cpu()
