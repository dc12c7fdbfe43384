"""A trained network, its plan and its windows: from a scan on disk to a mask on the scan's own grid."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from segment.data.labels import Labels
from segment.errors import UserError
from segment.inference.batches import FittingBatches
from segment.inference.decision import above, decide, decide_scan, thresholds_of
from segment.inference.dropout import activate, require_dropout
from segment.inference.held import held
from segment.inference.limits import DICE, PROBABILITIES, THRESHOLDS
from segment.inference.postprocessing import Step, postprocessed
from segment.inference.temperature import tempered
from segment.inference.windows import SlidingWindows, assembled
from segment.io.images import Image, read_image
from segment.preprocessing.cascade import OneHot
from segment.preprocessing.plan import Plan
from segment.preprocessing.prepare import Box, Placement, prepare_image, prepare_reference, require_preparable
from segment.preprocessing.restore import Restorer, fixed_axis, restore

Watch = Callable[[int, int, Tensor], None]
"""Called with the axis, the index and the probabilities (output, *plane) of a plane."""
Prepared = tuple[Tensor, Placement]
"""An image (channel, *spatial) on the plan's grid and the network's device, and where it comes from.

In the second stage of a cascade, the first stage's class indices are the last channel.
"""
Previous = Callable[[Image, str], np.ndarray]
"""The first stage of a cascade: an image and its name in messages to class indices (*spatial) uint8 on its grid."""

FindBox = Callable[[Image, str, Plan], Box | None]
"""The part of a scan that is predicted, see `segment.preprocessing.prepare.region_of`; None for all of it."""


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
        network: Maps (n, channel, *window) to logits (n, class, *window); or several, whose mean counts.
        plan: How the network's scans are prepared.
        windows: How a scan is divided into windows.
        labels: Meaning of the outputs.
        precision: Creates the context that the network runs in, such as Lightning's ``forward_context`` or an autocast.
        steps: Post-processing of the masks.
        previous: The first stage, where the plan is that of a cascade's second stage and scans are to be prepared.
        region: Finds the part of a scan that is predicted; None: all of it.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: Plan,
        windows: SlidingWindows,
        labels: Labels,
        precision: Callable[[], AbstractContextManager] = contextlib.nullcontext,
        steps: Sequence[Step] = (),
        previous: Previous | None = None,
        region: FindBox | None = None,
    ) -> None:
        self.network = network
        self.plan = plan
        self.windows = windows
        self.labels = labels
        self.precision = precision
        self.steps = steps
        if windows.dropout:
            require_dropout(network, windows.dropout)
        self.thresholds = thresholds_of(windows, labels)
        self.previous = previous
        self.region = region
        self.computing = threading.Lock()  # scans are prepared in another thread; both stages need all cores
        members = network if isinstance(network, nn.ModuleList) else [network]
        inputs = (OneHot(member, len(labels) - 1) if plan.previous_stage else member for member in members)
        self.forwards = [FittingBatches(member) for member in inputs]

    def predict_prepared(self, image: Tensor, placement: Placement) -> ScanOutput:
        """Predict a prepared image (channel, *spatial), with the probabilities of the whole scan.

        Raises:
            UserError: When the network's values are not finite.
        """
        scores = self.scores(image, placement)
        mask = self.classes(scores, placement)
        return ScanOutput(mask, self._probabilities(scores))

    def mask(
        self, image: Tensor, placement: Placement, watch: Watch | None = None, kept: np.ndarray | None = None
    ) -> np.ndarray:
        """Predict a prepared image (channel, *spatial) plane by plane, without holding its probabilities in memory.

        Args:
            image: The image.
            placement: Where it comes from.
            watch: Called with every plane's axis, index and probabilities (output, *plane) on the plan's grid.
            kept: (output, *spatial) floats on the source grid, zeros, to which the probabilities are written; with one
                output more, the mean entropy of the passes follows. Without it, a decision that needs the whole scan
                keeps the probabilities in a temporary file.

        Returns:
            Class indices (*spatial) uint8 on the source grid.

        Raises:
            UserError: When the network's values are not finite.
        """
        if kept is None and self.windows.decision == DICE:
            kept = held((self.labels.outputs, *placement.grid.shape))
        decided = self.add(image, placement, kept, watch=watch)
        return self._finished(decided, placement, kept)

    def add(
        self,
        image: Tensor,
        placement: Placement,
        kept: np.ndarray | None,
        share: float = 1,
        watch: Watch | None = None,
    ) -> np.ndarray:
        """Add the probabilities of a prepared image (channel, *spatial) to others, plane by plane.

        Args:
            image: The image.
            placement: Where it comes from.
            kept: As for `mask`; a share of the probabilities is added to it.
            share: That share.
            watch: As for `mask`.

        Returns:
            Class indices (*spatial) uint8 on the source grid: the most probable ones, of this model alone.

        Raises:
            UserError: When the network's values are not finite.
        """
        axis = self._axis(image, placement)
        length = image.shape[axis + 1] if image.ndim == 4 else 1
        restorer = Restorer(
            placement, self.plan, length, axis, self._decide, kept, share, self._background, self._tempered
        )
        more = kept is not None and len(kept) > self.labels.outputs
        with self.computing:
            for index, plane in self._planes(image, axis, whole=False, entropies=more):
                restorer.add(index, plane)
                if watch is not None:
                    watch(axis, index, self._tempered(plane[: self.labels.outputs]))
        return restorer.result()

    def probabilities(self, image: Tensor, placement: Placement) -> Tensor:
        """Compute probabilities (output, *spatial) float32 of a prepared image (channel, *spatial), on the plan's grid.

        Raises:
            UserError: When the network's values are not finite.
        """
        return self._probabilities(self.scores(image, placement))

    def scores(self, image: Tensor, placement: Placement) -> Tensor:
        """What `classes` and `on_source` restore: probabilities, or logits where the windows say ``restore=logits``.

        Raises:
            UserError: When the network's values are not finite.
        """
        axis = self._axis(image, placement)
        with self.computing:
            return assembled(self._planes(image, axis, whole=True), image.shape[1:], axis)

    def _axis(self, image: Tensor, placement: Placement) -> int:
        """The axis that a scan's planes are orthogonal to."""
        fixed = fixed_axis(placement, self.plan)
        return self.windows.axis(image.shape[1:], self.plan.patch_size) if fixed is None else fixed

    def _planes(self, image: Tensor, axis: int, whole: bool, entropies: bool = False) -> Iterator[tuple[int, Tensor]]:
        """The planes of `SlidingWindows.planes`, computed in evaluation mode and in the precision's context."""
        planes = self.windows.planes(
            self.forwards, image, self.plan.patch_size, bool(self.labels.regions), axis, whole, entropies
        )
        training = self.network.training
        self.network.eval()
        if self.windows.dropout:
            activate(self.network)
        total = torch.zeros((), device=image.device)
        try:
            while True:
                with self.precision():
                    found = next(planes, None)
                if found is None:
                    break
                # Entropies and probabilities are at most 1, logits small: their sum is finite where all are. It is
                # looked at once, since the host waits for the device to look.
                total = total + found[1].sum()
                yield found
            if not bool(torch.isfinite(total)):
                raise UserError(
                    "the network gives values that are not finite (NaN or infinite). Predict with "
                    "precision=32-true; if that does not help, its training diverged or the image has extreme "
                    "intensities."
                )
        finally:
            self.network.train(training)

    def classes(self, scores: Tensor, placement: Placement) -> np.ndarray:
        """Class indices (*spatial) uint8 on the source grid, from `scores` on the plan's grid."""
        axis = self._axis(scores, placement)
        kept = held((len(scores), *placement.grid.shape)) if self.windows.decision == DICE else None
        decided = restore(scores, placement, self.plan, self._decide, axis, kept, self._background, self._tempered)
        return self._finished(decided, placement, kept)

    def _finished(self, decided: np.ndarray, placement: Placement, kept: np.ndarray | None) -> np.ndarray:
        """The mask after a decision that needs the whole scan and after post-processing."""
        if kept is not None and self.windows.decision == DICE:
            decided = decide_scan(kept[: self.labels.outputs], self.labels, DICE)
        return postprocessed(decided, self.steps, self.labels, placement.grid.spacing)

    @property
    def _background(self) -> int | None:
        """The class of the parts of a scan that are cropped; regions are absent there."""
        return None if self.labels.regions else 0

    def _decide(self, scores: Tensor) -> Tensor:
        """Class indices of a plane (output, *plane) on the source grid; the most probable class has no temperature."""
        scores = scores[: self.labels.outputs]
        if self.windows.decision == THRESHOLDS:
            return above(self._tempered(scores), self.thresholds, self.labels)
        return decide(self._probabilities(scores), self.labels)

    def _probabilities(self, scores: Tensor) -> Tensor:
        """Probabilities of the windows' scores (output, ...), see `SlidingWindows.probabilities`."""
        return self.windows.probabilities(scores, bool(self.labels.regions))

    def _tempered(self, scores: Tensor) -> Tensor:
        """A plane of probabilities with the temperature of the windows; an output more than they are stays."""
        outputs, temperature = self.labels.outputs, self.windows.temperature
        if temperature == 1 and self.windows.restore == PROBABILITIES:
            return scores
        found = tempered(self._probabilities(scores[:outputs]), temperature, bool(self.labels.regions))
        return found if len(scores) == outputs else torch.cat([found, scores[outputs:]])

    def on_source(self, scores: Tensor, placement: Placement) -> np.ndarray:
        """Probabilities (output, *spatial) float32 on the source grid, of `scores`; cropped parts are background."""
        axis = self._axis(scores, placement)
        kept = np.zeros((len(scores), *placement.grid.shape), np.float32)
        restore(scores, placement, self.plan, self._decide, axis, kept, self._background, self._tempered)
        return kept

    def predict_files(self, images: Sequence[Path], watch: Watch | None = None) -> np.ndarray:
        """Predict image files, one per channel or one with all channels.

        Args:
            images: The files.
            watch: See `mask`.

        Returns:
            Class indices (*spatial) uint8 on the grid of the files.

        Raises:
            UserError: When a file cannot be read or its channels or axes differ from the model's.
        """
        return self.predict_read(images, self.read(images), watch)

    def read(self, images: Sequence[Path]) -> Prepared:
        """Read and prepare image files, see `prepare`."""
        return self.read_both(images)[1]

    def read_both(self, images: Sequence[Path]) -> tuple[Image, Prepared]:
        """Read image files, and prepare them, see `prepare`."""
        image = read_image(images)
        return image, self.prepare(image, str(images[0]))

    def predict_read(
        self, images: Sequence[Path], prepared: Prepared, watch: Watch | None = None, kept: np.ndarray | None = None
    ) -> np.ndarray:
        """Predict what `read` returned, see `predict_files` and `mask`."""
        try:
            return self.mask(*prepared, watch, kept)
        except UserError as error:
            raise UserError(f"{images[0]}: {error}") from error

    def predict_image(self, image: Image, name: str) -> np.ndarray:
        """Class indices (*spatial) uint8 of an image on its own grid; arguments and errors as of `prepare`."""
        prepared = self.prepare(image, name)
        try:
            return self.mask(*prepared)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error

    def prepare(self, image: Image, name: str) -> Prepared:
        """Prepare an image (channel, *spatial) on the plan's grid and the network's device, and return its placement.

        In the second stage of a cascade, the first stage predicts the image.

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
        require_preparable(image.grid, channels, self.plan, name)
        box = None
        if self.region is not None:
            with self.computing:
                box = self.region(image, name, self.plan)
        try:
            prepared, placement = prepare_image(image, self.plan, box)
        except ValueError as error:
            raise UserError(f"{name}: {error}. Give images like those it was trained on.") from error
        if self.previous is not None:
            with self.computing:
                classes = self.previous(image, name)
            mask = prepare_reference(classes, placement, self.plan)
            prepared = np.concatenate([prepared, mask[None].astype(np.float32)])
        return self.on_device(prepared), placement

    def on_device(self, prepared: np.ndarray) -> Tensor:
        """A prepared image on the network's device."""
        return torch.from_numpy(prepared).to(next(self.network.parameters()).device)


AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def context_of(precision: str, device: torch.device) -> Callable[[], AbstractContextManager]:
    """Creates the context of a precision.

    Args:
        precision: Lightning's name: ``bf16-mixed`` and ``16-mixed`` run under autocast, anything else without.
        device: Where the network runs.
    """
    if precision not in AUTOCAST:
        return contextlib.nullcontext
    return lambda: torch.autocast(device.type, dtype=AUTOCAST[precision])
