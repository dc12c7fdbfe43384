"""Scores of one scan, with one policy for structures that are absent from a mask.

Absent in both masks: no score, recorded in the status and left out of means. Absent in one: each metric's penalty.
All voxels are counted once for all structures; metrics that need more share one cropped pair of masks per structure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from segment.metrics.check import as_finite
from segment.metrics.metric import DIAGONAL, MEASURED, CountMetric, Counts, Metric, penalty_in
from segment.metrics.overlap import Mask, confusion
from segment.metrics.pair import PairMetric, StructurePair, bounding_box, computed_once, enclosing
from segment.metrics.standard import STANDARD

Status = Literal["ok", "both_empty", "missed", "invented"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class LabelScore:
    """Scores of one structure (a label, or a region of several) in one scan.

    Attributes:
        label: Number of the structure, from 1; a label's class index.
        name: Its name.
        scores: Name of every metric to its score; finite, except NaN exactly when `status` is ``both_empty``.
        reference_voxels: Its voxels in the reference.
        predicted_voxels: Its voxels in the prediction.
        status: ``ok``; ``both_empty`` (in neither mask); ``missed`` (in the reference only);
            ``invented`` (in the prediction only).
    """

    label: int
    name: str
    scores: Mapping[str, float]
    reference_voxels: int
    predicted_voxels: int
    status: Status


def label_status(reference_voxels: int, predicted_voxels: int) -> Status:
    """Determine which of the two masks contain a structure.

    Args:
        reference_voxels: Voxels of the structure in the reference.
        predicted_voxels: Voxels of the structure in the prediction.

    Returns:
        ``ok`` (in both), ``both_empty``, ``missed`` or ``invented``.
    """
    if reference_voxels and predicted_voxels:
        return "ok"
    if reference_voxels:
        return "missed"
    return "invented" if predicted_voxels else "both_empty"


def score_scan(
    prediction: Mask,
    reference: Mask,
    structures: Mapping[str, Sequence[int]],
    n_classes: int,
    ignore: int | None = None,
    metrics: Sequence[Metric] = STANDARD,
    spacing: Sequence[float] | None = None,
    tolerance: Mapping[str, float] | None = None,
) -> list[LabelScore]:
    """Score every structure of one scan; see `count_and_score`."""
    return count_and_score(prediction, reference, structures, n_classes, ignore, metrics, spacing, tolerance)[1]


def count_and_score(
    prediction: Mask,
    reference: Mask,
    structures: Mapping[str, Sequence[int]],
    n_classes: int,
    ignore: int | None = None,
    metrics: Sequence[Metric] = STANDARD,
    spacing: Sequence[float] | None = None,
    tolerance: Mapping[str, float] | None = None,
) -> tuple[np.ndarray, list[LabelScore]]:
    """Count the voxels of every pair of classes in one scan, and score every structure.

    Args:
        prediction: Class indices ``(*spatial)``, integer; NumPy array or tensor.
        reference: Class indices of the same shape.
        structures: Name of every structure to the classes it consists of: one for a label, several for a region.
        n_classes: Number of classes, background included.
        ignore: Voxels of this value in the reference are left out of all scores. None for none.
        metrics: Metrics to compute.
        spacing: Voxel size in mm in array order; None if no metric needs it.
        tolerance: Name of a structure to the distance in mm that counts as agreement, for metrics such as NSD.

    Returns:
        The annotated voxels by class of the reference (row) and of the prediction (column), as
        `segment.metrics.overlap.confusion` counts them; one score per structure, in the order of `structures`.

    Raises:
        ValueError: The masks differ in shape, are not integer or have a class beyond `n_classes`; the spacing has the
            wrong number of axes or is missing; or a metric returns no finite number.
    """
    shape = tuple(reference.shape)
    if spacing is not None and len(spacing) != len(shape):
        raise ValueError(f"a spacing of {len(spacing)} axes for masks of {len(shape)}")
    for metric in metrics:
        if spacing is None and (metric.needs_spacing or metric.penalty == DIAGONAL):
            raise ValueError(f"the metric {metric.name} needs the spacing of the scan")
    masks = _Masks(prediction, reference, ignore)
    sizes = tuple(spacing or (1.0,) * len(shape))

    def score(index: int, name: str, counts: Counts) -> LabelScore:
        status = label_status(counts.reference, counts.prediction)
        structure = _Structure(masks, structures[name], counts, sizes, (tolerance or {}).get(name))
        scores = {metric.name: _score(metric, status, structure) for metric in metrics}
        return LabelScore(index + 1, name, scores, counts.reference, counts.prediction, status)

    table = masks.confusion(n_classes)
    counted = structure_counts(table, structures)
    return table, [score(index, name, counts) for index, (name, counts) in enumerate(counted.items())]


def structure_counts(table: np.ndarray, structures: Mapping[str, Sequence[int]]) -> dict[str, Counts]:
    """Voxels of every structure in one or both masks.

    Args:
        table: (class of the reference, class of the prediction), as `segment.metrics.overlap.confusion` counts them.
        structures: Name of every structure to the classes it consists of.
    """
    members = np.zeros((len(structures), len(table)), np.int64)
    for row, classes in zip(members, structures.values(), strict=True):
        row[list(classes)] = 1
    referenced, predicted = members @ table.sum(axis=1), members @ table.sum(axis=0)
    shared = ((members @ table) * members).sum(axis=1)
    total = int(table.sum())
    rows = zip(structures, shared.tolist(), referenced.tolist(), predicted.tolist(), strict=True)
    return {name: Counts(both, reference, prediction, total) for name, both, reference, prediction in rows}


def _score(metric: Metric, status: Status, structure: _Structure) -> float:
    """One score of one structure, by the policy for absent structures."""
    if status == "both_empty":
        return math.nan
    if status != "ok" and metric.penalty != MEASURED:
        return penalty_in(metric, structure.masks.shape, structure.spacing)
    if isinstance(metric, CountMetric):
        value: object = metric.of_counts(structure.counts)
    elif isinstance(metric, PairMetric):
        value = metric.of_pair(structure.pair)
    else:
        value = metric.compute(*structure.whole, structure.spacing)
    return as_finite(metric, value)


@dataclass(frozen=True)
class _Structure:
    """A structure of a scan; its binary masks are made only if a metric needs them."""

    masks: _Masks
    classes: Sequence[int]
    counts: Counts
    spacing: tuple[float, ...]
    tolerance: float | None

    @computed_once
    def whole(self) -> tuple[np.ndarray, np.ndarray]:
        """Boolean masks of the whole scan."""
        return self.masks.of(self.classes, (slice(None),) * len(self.spacing))

    @computed_once
    def pair(self) -> StructurePair:
        """Both masks, cropped to the structure."""
        cropped = self.masks.of(self.classes, self.masks.box(self.classes))
        return StructurePair(*cropped, self.spacing, self.counts, self.tolerance)


class _Masks:
    """Both masks of a scan, without voxels that are not annotated."""

    def __init__(self, prediction: Mask, reference: Mask, ignore: int | None) -> None:
        self.given = prediction, reference
        self.shape = tuple(reference.shape)
        self.known: Mask | None = None
        if ignore is not None and tuple(prediction.shape) == self.shape:
            known = reference != ignore
            self.known = None if known.all() else known

    def confusion(self, n_classes: int) -> np.ndarray:
        """Annotated voxels by class, as `segment.metrics.overlap.confusion` counts them."""
        prediction, reference = self.given
        if self.known is not None:
            return confusion(prediction[self.known], reference[self.known], n_classes)
        if not self.integral:
            return confusion(prediction, reference, n_classes)
        table = confusion(prediction[self.foreground], reference[self.foreground], n_classes)
        table[0, 0] += math.prod(self.shape) - table.sum()
        return table

    @computed_once
    def integral(self) -> bool:
        """Whether both are integer arrays of one shape: then only their foreground need be counted."""
        arrays = [mask for mask in self.given if isinstance(mask, np.ndarray) and mask.dtype.kind in "bui"]
        return len(arrays) == 2 and arrays[0].shape == arrays[1].shape and arrays[0].ndim > 0

    @computed_once
    def foreground(self) -> tuple[slice, ...]:
        """The box outside of which both masks are background."""
        return bounding_box(*self.arrays)

    @computed_once
    def arrays(self) -> list[np.ndarray]:
        """Both masks on the host."""
        return [_array(mask) for mask in self.given]

    @computed_once
    def boxes(self) -> list[list[tuple[slice, ...] | None]]:
        """For each mask, the boxes of the classes from 1 on, found in one pass; None for a class it lacks."""
        from scipy.ndimage import find_objects

        found = [find_objects(mask[self.foreground]) for mask in self.arrays]
        return [[box and _moved(box, self.foreground) for box in boxes] for boxes in found]

    def box(self, classes: Sequence[int]) -> tuple[slice, ...]:
        """A box that holds a structure in both masks; the whole scan if the background is part of it."""
        if 0 in classes:
            return (slice(None),) * len(self.shape)
        parts = [boxes[index - 1] for boxes in self.boxes for index in classes if index <= len(boxes)]
        return enclosing([part for part in parts if part is not None])

    def of(self, classes: Sequence[int], box: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Boolean, read-only masks of a structure within a box, shared by all metrics."""
        masks = []
        for array in self.arrays:
            part = array[box]
            inside = part == classes[0] if len(classes) == 1 else np.isin(part, list(classes))
            if self.known is not None:
                inside &= _array(self.known)[box]
            inside.flags.writeable = False
            masks.append(inside)
        return masks[0], masks[1]


def _moved(box: tuple[slice, ...], within: tuple[slice, ...]) -> tuple[slice, ...]:
    """A box of a part, as a box of the whole."""
    pairs = zip(box, within, strict=True)
    return tuple(slice(outer.start + inner.start, outer.start + inner.stop) for inner, outer in pairs)


def _array(mask: Mask) -> np.ndarray:
    """An array on the host, from an array or a tensor on any device."""
    return mask if isinstance(mask, np.ndarray) else mask.cpu().numpy()
