"""Predictors of several plans as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.inference.decision import decide_scan
from segment.inference.held import held
from segment.inference.postprocessing import postprocessed
from segment.inference.predictor import Predictor, Prepared, Watch
from segment.io.images import Image, read_image


class SeveralPlans:
    """Predicts the mean of the probabilities of predictors with different plans, on the scan's own grid.

    Args:
        predictors: The predictor of each plan.
        models: Number of models of each; every model has equal weight.
    """

    def __init__(self, predictors: Sequence[Predictor], models: Sequence[int]) -> None:
        self.predictors = predictors
        self.shares = [number / sum(models) for number in models]

    def read(self, images: Sequence[Path]) -> list[Prepared]:
        """Read image files once, and prepare the scan for each plan; see `Predictor.read`."""
        return self.read_both(images)[1]

    def read_both(self, images: Sequence[Path]) -> tuple[Image, list[Prepared]]:
        """Read image files once, and prepare the scan for each plan; see `Predictor.read_both`."""
        image = read_image(images)
        return image, self._prepare(image, str(images[0]))

    def predict_image(self, image: Image, name: str) -> np.ndarray:
        """As `Predictor.predict_image`."""
        return self._predict(name, self._prepare(image, name))

    def _prepare(self, image: Image, name: str) -> list[Prepared]:
        return [predictor.prepare(image, name) for predictor in self.predictors]

    def predict_read(
        self,
        images: Sequence[Path],
        prepared: Sequence[Prepared],
        watch: Watch | None = None,
        kept: np.ndarray | None = None,
    ) -> np.ndarray:
        """Predict what `read` returned.

        Args:
            images: The files.
            prepared: The scan, prepared for each plan.
            watch: As for `Predictor.mask`, called for one plan after the other.
            kept: As for `Predictor.mask`, float32; None: probabilities are held in a temporary file.

        Returns:
            Class indices (*spatial) uint8 on the source grid.

        Raises:
            UserError: When the values of a network are not finite.
        """
        return self._predict(str(images[0]), prepared, watch, kept)

    def _predict(
        self,
        name: str,
        prepared: Sequence[Prepared],
        watch: Watch | None = None,
        kept: np.ndarray | None = None,
    ) -> np.ndarray:
        first, grid = self.predictors[0], prepared[0][1].grid
        if kept is None:
            kept = held((first.labels.outputs, *grid.shape), np.float32)
        try:
            for predictor, share, (image, placement) in zip(self.predictors, self.shares, prepared, strict=True):
                predictor.add(image, placement, kept, share, watch)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        decision, thresholds = first.windows.decision, first.thresholds if len(first.thresholds) else None
        decided = decide_scan(kept[: first.labels.outputs], first.labels, decision, thresholds)
        return postprocessed(decided, first.steps, first.labels, grid.spacing)
