"""Collects the lesions of scans, with their scores, while the scans are predicted."""

from __future__ import annotations

import numpy as np

from segment.data.case import Case
from segment.data.labels import IGNORE, Labels
from segment.inference.held import held
from segment.io.geometry import Grid
from segment.io.images import read_label
from segment.metrics.detection import Detections, Score, detections


class LesionCollector:
    """Collects the lesions of every structure on the scans' own grids, without voxels that are not annotated.

    Args:
        labels: What the outputs stand for.
        score: What scores a lesion, see `segment.metrics.detection.detections`.

    Attributes:
        parts: Name of every structure to its lesions in each scan, by the scan's id.
    """

    def __init__(self, labels: Labels, score: Score) -> None:
        self.labels = labels
        self.score = score
        self.parts: dict[str, dict[str, Detections]] = {name: {} for name in labels.structures}

    def room(self, grid: Grid) -> np.ndarray:
        """Room on disk for the probabilities (output, *spatial) of a scan; in halves, more lesions would be equal."""
        return held((self.labels.outputs, *grid.shape), np.float32)

    def add(self, case: Case, grid: Grid, mask: np.ndarray, probabilities: np.ndarray) -> None:
        """Match the lesions of a scan.

        Args:
            case: The scan, with a reference.
            grid: Its grid.
            mask: Its predicted class indices ``(*spatial)``.
            probabilities: ``(output, *spatial)`` on the same grid.
        """
        assert case.label is not None
        truth = self.labels.encode(read_label(case.label, grid).array)
        known = truth != IGNORE
        for index, (name, classes) in enumerate(self.labels.structures.items()):
            prediction, reference = np.isin(mask, classes) & known, np.isin(truth, classes)
            output = index if self.labels.regions else classes[0]
            self.parts[name][case.id] = detections(prediction, reference, probabilities[output], self.score)
