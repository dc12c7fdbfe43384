"""The part of a scan that is predicted: the box around what a coarse model finds, with a margin."""

from __future__ import annotations

import logging

import numpy as np

from segment.inference.predictor import Previous
from segment.io.images import Image
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Box, region_of

_log = logging.getLogger(__name__)


class Region:
    """Finds the box of a scan by a coarse model.

    A scan in which the coarse model finds nothing is predicted whole: a structure that it missed is not lost.

    Args:
        find: Predicts a scan with the coarse model.
        margin: mm around what it finds, along each axis.
    """

    def __init__(self, find: Previous, margin: float) -> None:
        self.find = find
        self.margin = margin
        self._latest: tuple[str, np.ndarray] | None = None

    def box(self, image: Image, name: str, plan: Plan) -> Box | None:
        """The box for the preparation of a scan, see `segment.preprocessing.prepare.region_of`.

        Args:
            image: The scan.
            name: Its name, in messages; plans that ask for the same one share the coarse mask.
            plan: The plan of the model that predicts the box.
        """
        if self._latest is None or self._latest[0] != name:
            self._latest = name, self.find(image, name)
            if not self._latest[1].any():
                _log.warning("%s: the coarse model (roi=) finds nothing, so the whole scan is predicted.", name)
        return region_of(self._latest[1], image.grid, plan, self.margin)
