"""Pictures of how the predictions of the first validation scans change during training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger

from segment.data.case import Case
from segment.data.labels import IGNORE, Labels
from segment.errors import UserError
from segment.io.geometry import Grid, canonical_spacing, to_canonical
from segment.io.images import read_image, read_label
from segment.training.callbacks.progress import total_steps

_log = logging.getLogger(__name__)

Draw = Callable[[np.ndarray, np.ndarray, np.ndarray, int, tuple[float, ...]], np.ndarray]


@dataclass(frozen=True)
class _Slice:
    """The slice of a scan that is drawn, in canonical axes; cached so that its files are read once."""

    image: np.ndarray
    reference: np.ndarray
    grid: Grid
    index: int | None

    def of(self, array: np.ndarray) -> np.ndarray:
        """The same slice of a mask on the scan's own grid."""
        canonical = to_canonical(array, self.grid)
        return canonical if self.index is None else canonical[self.index : self.index + 1]


class ValidationPanels(pl.Callback):
    """Draws image, reference and prediction of the first validation scans at every validation, for TensorBoard.

    Always draws the slice in which the reference has most voxels. The tag is ``panels/training/SCAN``. If the length of
    the training is known, each scan is drawn at most `most` times, evenly spaced.

    Args:
        draw: Draws a picture (H, W, 3) uint8 from image (C, *spatial), reference and prediction (*spatial) in canonical
            axes, the number of classes and the spacing in mm.
        scans: Number of scans that are drawn.
        most: Largest number of pictures per scan.
    """

    def __init__(self, draw: Draw, scans: int = 1, most: int = 50) -> None:
        self.draw = draw
        self.scans = scans
        self.most = most
        self.last = -1  # step of the last pictures; -1 before the first
        self.due = False
        self.slices: dict[int, _Slice | None] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.last = state_dict["last"]

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Decide whether to draw this validation."""
        self.due = False
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        step, total, gaps = trainer.global_step, total_steps(trainer), self.most - 1
        self.due = self.last < 0 or not total or step * gaps // total > self.last * gaps // total
        self.last = step if self.due else self.last

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw one scan."""
        if not self.due or batch_idx >= self.scans:
            return
        labels: Labels = pl_module.labels  # type: ignore[assignment]
        case = trainer.datamodule.val[batch["index"]]  # type: ignore[attr-defined]
        if batch["index"] not in self.slices:
            self.slices[batch["index"]] = _read(case, labels)
        drawn = self.slices[batch["index"]]
        if drawn is None:
            return
        prediction, spacing = drawn.of(outputs.mask), canonical_spacing(drawn.grid)
        picture = self.draw(drawn.image, drawn.reference, prediction, len(labels), spacing)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                tag = f"panels/training/{case.id}"
                logger.experiment.add_image(tag, picture, trainer.global_step, dataformats="HWC")


def _read(case: Case, labels: Labels) -> _Slice | None:
    """The slice of a scan that is drawn; None, with a warning, if its files cannot be read any more."""
    assert case.label is not None
    try:
        image = read_image(case.images)
        label = read_label(case.label, image.grid)
    except UserError as error:  # a missing picture must not stop a training
        _log.warning("No pictures of %s: %s", case.id, error)
        return None
    classes = to_canonical(labels.encode(label.array), label.grid)
    reference = np.where(classes == IGNORE, 0, classes)
    array = to_canonical(image.array, image.grid)
    if reference.ndim == 2:
        return _Slice(array, reference, image.grid, None)
    voxels = np.count_nonzero(reference, axis=(1, 2))
    index = int(voxels.argmax()) if voxels.any() else len(voxels) // 2
    part = slice(index, index + 1)
    return _Slice(array[:, part].copy(), reference[part].copy(), image.grid, index)
