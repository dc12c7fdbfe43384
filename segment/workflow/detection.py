"""Finds the lesions of scans, with their scores, while the scans are predicted."""

from __future__ import annotations

import numpy as np

from segment.data.case import Case
from segment.data.labels import IGNORE, Labels
from segment.inference.held import held
from segment.io.geometry import Grid
from segment.io.images import read_label
from segment.metrics.detection import Detections, Score, detections


class LesionFinder:
    """Finds the lesions of every structure on the scans' own grids, without voxels that are not annotated.

    Args:
        labels: What the outputs stand for.
        score: What scores a lesion, see `segment.metrics.detection.detections`.
    """

    def __init__(self, labels: Labels, score: Score) -> None:
        self.labels = labels
        self.score = score

    def room(self, grid: Grid) -> np.ndarray:
        """Room on disk for the probabilities (output, *spatial) of a scan; in halves, more lesions would be equal."""
        return held((self.labels.outputs, *grid.shape), np.float32)

    def find(self, case: Case, grid: Grid, mask: np.ndarray, probabilities: np.ndarray) -> dict[str, Detections]:
        """Match the lesions of a scan.

        Args:
            case: The scan, with a reference.
            grid: Its grid.
            mask: Its predicted class indices ``(*spatial)``.
            probabilities: ``(output, *spatial)`` on the same grid.

        Returns:
            Name of every structure to its lesions.
        """
        assert case.label is not None
        truth = self.labels.encode(read_label(case.label, grid).array)
        known, found = truth != IGNORE, {}
        for index, (name, classes) in enumerate(self.labels.structures.items()):
            prediction, reference = np.isin(mask, classes) & known, np.isin(truth, classes)
            output = index if self.labels.regions else classes[0]
            found[name] = detections(prediction, reference, probabilities[output], self.score)
        return found
