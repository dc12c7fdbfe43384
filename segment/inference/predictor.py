"""A trained network, its plan and its windows: from a scan on disk to a mask on the scan's own grid."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.windows import SlidingWindows
from segment.io.geometry import canonical_grid
from segment.io.images import Image, read_image
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Placement, prepare_image, prepared_shape, transposed
from segment.preprocessing.restore import most_likely, restore

MAX_VOXELS = 1 << 31  # in a resampled scan; a whole body at 1 mm has a quarter of this


class ScanOutput(NamedTuple):
    """The prediction of a scan.

    Attributes:
        mask: Class indices (*spatial) uint8 on the grid of the scan.
        probabilities: (output, *spatial) in [0, 1] on the grid of the plan, on the network's device. Often the largest
            array in memory: release it before the next scan.
    """

    mask: np.ndarray
    probabilities: Tensor


class Predictor:
    """Predicts whole scans.

    Args:
        network: Maps (n, channel, *window) to logits (n, class, *window).
        plan: How the network's scans are prepared.
        windows: How a scan is divided into windows.
        labels: Meaning of the outputs.
        precision: Creates the context that the network runs in, such as Lightning's ``forward_context`` or an autocast.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        windows: SlidingWindows,
        labels: Labels,
        precision: Callable[[], AbstractContextManager] = contextlib.nullcontext,
    ) -> None:
        self.network = network
        self.plan = plan
        self.windows = windows
        self.labels = labels
        self.precision = precision

    def predict_prepared(self, image: Tensor, placement: Placement) -> ScanOutput:
        """Predict a prepared image (channel, *spatial).

        Raises:
            UserError: When the network's values are not finite.
        """
        probabilities = self.probabilities(image)
        return ScanOutput(self.classes(probabilities, placement), probabilities)

    def probabilities(self, image: Tensor) -> Tensor:
        """Compute probabilities (output, *spatial) float32 of a prepared image (channel, *spatial), on the plan's grid.

        Raises:
            UserError: When the network's values are not finite.
        """
        training = self.network.training
        self.network.eval()
        try:
            with self.precision():
                probabilities = self.windows(self.network, image, self.plan.patch_size, bool(self.labels.regions))
        finally:
            self.network.train(training)
        # Probabilities are at most 1, so their sum is finite where all of them are.
        if not bool(torch.isfinite(probabilities.sum())):
            raise UserError(
                "the network gives values that are not finite (NaN or infinite). Predict with precision=32-true; if "
                "that does not help, its training diverged or the image has extreme intensities."
            )
        return probabilities

    def classes(self, probabilities: Tensor, placement: Placement) -> np.ndarray:
        """Class indices (*spatial) uint8 on the source grid, from probabilities on the plan's grid."""
        return restore(probabilities, placement, self.plan, functools.partial(decide, labels=self.labels))

    def on_source(self, probabilities: Tensor, placement: Placement) -> np.ndarray:
        """Probabilities (output, *spatial) float32 on the source grid; cropped parts are background."""
        background = [not self.labels.regions and index == 0 for index in range(len(probabilities))]
        return np.stack(
            [
                restore(part[None], placement, self.plan, lambda slab: slab[0], np.float32, float(outside))
                for part, outside in zip(probabilities, background, strict=True)
            ]
        )

    def predict_files(self, images: Sequence[Path]) -> ScanOutput:
        """Predict image files, one per channel or one with all channels.

        Raises:
            UserError: When a file cannot be read or its channels or axes differ from the model's.
        """
        prepared, placement = self.prepare(read_image(images), str(images[0]))
        try:
            return self.predict_prepared(prepared, placement)
        except UserError as error:
            raise UserError(f"{images[0]}: {error}") from error

    def prepare(self, image: Image, name: str) -> tuple[Tensor, Placement]:
        """Prepare an image (channel, *spatial) on the plan's grid and the network's device, and return its placement.

        Args:
            image: Image on its source grid.
            name: Name of the image in messages.

        Raises:
            UserError: When its channels or axes differ from the model's, or its values do not fit.
        """
        channels, dims = len(self.plan.normalization), len(self.plan.transpose) or len(self.plan.spacing)
        if image.array.shape[0] != channels or image.grid.ndim != dims:
            raise UserError(
                f"{name}: a {image.grid.ndim}D image with {image.array.shape[0]} channel(s), but the model was "
                f"trained on {dims}D images with {channels}. Give images like those it was trained on."
            )
        grid = canonical_grid(image.grid)
        shape = prepared_shape(transposed(grid.shape, self.plan), transposed(grid.spacing, self.plan), self.plan)
        if math.prod(shape) > MAX_VOXELS:
            raise UserError(
                f"{name}: its voxels of {image.grid.spacing} mm would become {shape} voxels of the model's "
                f"{self.plan.spacing} mm. Fix the spacing in the file's header, or use another model."
            )
        try:
            prepared, placement = prepare_image(image, self.plan)
        except ValueError as error:
            raise UserError(f"{name}: {error}. Give images like those it was trained on.") from error
        return torch.from_numpy(prepared).to(next(self.network.parameters()).device), placement


AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def decide(probabilities: Tensor, labels: Labels) -> Tensor:
    """Decide the class of every voxel.

    Args:
        probabilities: (output, *spatial). Classes: the most probable wins. Regions: each region above 0.5 writes its
            class, later regions over earlier ones (nnU-Net's ``regions_class_order``).
        labels: Meaning of the outputs.

    Returns:
        (*spatial) uint8 class indices.
    """
    if not labels.regions:
        return most_likely(probabilities)
    classes = torch.zeros(probabilities.shape[1:], dtype=torch.uint8, device=probabilities.device)
    for region, index in zip(probabilities, labels.painted, strict=True):
        classes[region > 0.5] = index
    return classes
