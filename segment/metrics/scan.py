"""Scores of one scan, with one policy for structures that are absent from a mask.

Absent in both masks: no score, recorded in the status and left out of means. Absent in one: each metric's penalty.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from segment.metrics.check import as_finite
from segment.metrics.metric import CountMetric, Counts, Metric, penalty_in
from segment.metrics.overlap import Mask, confusion
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
) -> list[LabelScore]:
    """Score every structure of one scan; see `count_and_score`."""
    return count_and_score(prediction, reference, structures, n_classes, ignore, metrics, spacing)[1]


def count_and_score(
    prediction: Mask,
    reference: Mask,
    structures: Mapping[str, Sequence[int]],
    n_classes: int,
    ignore: int | None = None,
    metrics: Sequence[Metric] = STANDARD,
    spacing: Sequence[float] | None = None,
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
        if metric.needs_spacing and spacing is None:
            raise ValueError(f"the metric {metric.name} needs the spacing of the scan")
    penalties = {metric.name: penalty_in(metric, shape, spacing) for metric in metrics}
    masks = _Masks(prediction, reference, ignore)
    table = confusion(*masks.annotated(), n_classes)
    members = np.zeros((len(structures), n_classes), np.int64)
    for row, classes in zip(members, structures.values(), strict=True):
        row[list(classes)] = 1
    referenced, predicted = members @ table.sum(axis=1), members @ table.sum(axis=0)
    shared = np.einsum("sr,rp,sp->s", members, table, members)
    results = []
    for index, (name, classes) in enumerate(structures.items()):
        counts = Counts(int(shared[index]), int(referenced[index]), int(predicted[index]), int(table.sum()))
        status = label_status(counts.reference, counts.prediction)
        if status == "ok":
            scores = _scores(metrics, counts, functools.partial(masks.of, classes), spacing or (1.0,) * len(shape))
        else:
            scores = dict.fromkeys(penalties, math.nan) if status == "both_empty" else penalties
        results.append(LabelScore(index + 1, name, scores, counts.reference, counts.prediction, status))
    return table, results


def _scores(
    metrics: Sequence[Metric],
    counts: Counts,
    structure: functools.partial[tuple[np.ndarray, np.ndarray]],
    spacing: Sequence[float],
) -> dict[str, float]:
    """Every metric of a structure in both masks; its binary masks are made only if a metric needs them."""
    scores = {}
    pair: tuple[np.ndarray, np.ndarray] | None = None
    for metric in metrics:
        if isinstance(metric, CountMetric):
            value: object = metric.of_counts(counts)
        else:
            pair = pair or structure()
            value = metric.compute(*pair, tuple(spacing))
        scores[metric.name] = as_finite(metric, value)
    return scores


class _Masks:
    """Both masks of a scan, without voxels that are not annotated."""

    def __init__(self, prediction: Mask, reference: Mask, ignore: int | None) -> None:
        self.pair = prediction, reference
        self.known: Mask | None = None
        if ignore is not None and tuple(prediction.shape) == tuple(reference.shape):
            known = reference != ignore
            self.known = None if known.all() else known

    def annotated(self) -> tuple[Mask, Mask]:
        """Class indices of the annotated voxels."""
        if self.known is None:
            return self.pair
        return self.pair[0][self.known], self.pair[1][self.known]

    def of(self, classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Boolean, read-only masks of a structure, shared by all metrics."""
        known = None if self.known is None else _array(self.known)
        masks = []
        for mask in self.pair:
            inside = np.isin(_array(mask), list(classes))
            if known is not None:
                inside &= known
            inside.flags.writeable = False
            masks.append(inside)
        return masks[0], masks[1]


def _array(mask: Mask) -> np.ndarray:
    """An array on the host, from an array or a tensor on any device."""
    return mask if isinstance(mask, np.ndarray) else mask.cpu().numpy()
