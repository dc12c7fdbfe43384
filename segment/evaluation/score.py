"""Scores masks on disk against their references."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.data.labels import IGNORE, Labels
from segment.errors import UserError
from segment.evaluation.journal import Journal, Scored
from segment.io.geometry import grid_difference
from segment.io.images import read_header, read_label
from segment.memory import available_memory
from segment.metrics.metric import Metric
from segment.metrics.overlap import confusion
from segment.metrics.scan import count_and_score, structure_counts
from segment.metrics.standard import STANDARD
from segment.parallel import Room, on_all_cores
from segment.runs.columns import COLUMNS, COUNTS, GROUP, OVERLAPS, POSTPROCESSED, VOLUMES

BYTES_PER_VOXEL = 32  # of a pair of masks and their distances

Pair = tuple[str, Path, Path]
"""Case id, prediction file, reference file."""
Change = Callable[[np.ndarray, Sequence[float]], np.ndarray]
"""Changes class indices ``(*spatial)``, given mm along each axis, into new ones of the same shape."""


def score_pairs(
    pairs: Sequence[Pair],
    labels: Labels,
    split: str,
    fold: int | None,
    metrics: Sequence[Metric] = STANDARD,
    tolerance: Mapping[str, float] | None = None,
    advance: Callable[[str], None] | None = None,
    groups: Mapping[str, str] | None = None,
    confusion: np.ndarray | None = None,
    journal: Journal | None = None,
    processes: bool = False,
    change: Change | None = None,
) -> pd.DataFrame:
    """Score masks on disk against their references.

    Args:
        pairs: (case id, prediction file, reference file).
        labels: Labels of the values in the masks.
        split: Split the scans belong to, e.g. ``val``.
        fold: Fold the scans belong to; None if there is none.
        metrics: Metrics to compute in addition to the standard ones.
        tolerance: Name of a structure to the distance in mm that counts as agreement, for metrics such as NSD.
        advance: Called with the case id after each scan, e.g. to update a progress bar.
        groups: Case id to the patient, film or specimen of the scan, which makes scans dependent; empty for none.
        confusion: (class of the reference, class of the prediction) int64, to which the voxels of all scans are added.
        journal: Where every scored scan is kept, so that a stopped command goes on; scans in it are not scored again.
        processes: Whether to fork processes for many scans, as `segment.parallel.on_all_cores` says; else threads.
        change: Post-processing of each prediction before it is scored.

    Returns:
        Table with `COLUMNS`, `GROUP` if any scan has one, `VOLUMES` of 3D scans, `POSTPROCESSED` with a change, then
        further metrics; one row per (scan, label), scans in the order of `pairs`, labels by class index.

    Raises:
        UserError: A file cannot be read or is not a mask, the two masks of a scan are on different grids, a mask
            contains a value that no label has, or a metric does not return a finite number.
    """
    import torch  # here, since it takes seconds, and before processes are forked, which then share it

    named = {metric.name: metric for metric in (*STANDARD, *metrics)}
    further = [name for name in named if name not in OVERLAPS]

    def score(pair: Pair) -> Scored:
        if multiprocessing.parent_process() is not None:
            torch.set_num_threads(1)  # several threads of a forked process could wait for each other forever
        with room.taken(math.prod(read_header(pair[2]).grid.shape)):
            return _score_pair(pair, labels, list(named.values()), tolerance, change)

    room = Room(voxels_at_once())
    kept = journal or Journal(None, labels, [], {})
    earlier = {pair[0]: found for pair in pairs if (found := kept.find(pair)) is not None}
    scored = on_all_cores(score, [pair for pair in pairs if pair[0] not in earlier], processes)
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        case = pair[0]
        if case in earlier:
            counts, scores = earlier[case]
        else:
            counts, scores = next(scored)
            kept.add(pair, (counts, scores))
        rows += scores
        if confusion is not None:
            confusion += counts
        if advance is not None:
            advance(case)
    optional = [*VOLUMES, *([POSTPROCESSED] if change else [])]
    scans = pd.DataFrame(rows, columns=["case", "label", "name", *OVERLAPS, *COUNTS, "status", *optional, *further])
    scans["split"] = split
    scans["fold"] = pd.Series([fold] * len(scans), dtype="Int64")
    scans[GROUP] = scans["case"].map(groups or {}).fillna("")
    known = [GROUP] if (scans[GROUP] != "").any() else []
    known += VOLUMES if scans[list(VOLUMES)].notna().any(axis=None) else []  # flat images have none
    known += [POSTPROCESSED] if change else []
    return scans[[*COLUMNS, *known, *further]]


def voxels_at_once() -> int:
    """Voxels of the scans that are read at once: those that half of the available memory holds."""
    return available_memory() // 2 // BYTES_PER_VOXEL


def read_pair(pair: Pair, labels: Labels) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Read a mask and its reference.

    Args:
        pair: The files.
        labels: Labels of the values in both.

    Returns:
        Class indices of the prediction and of the reference, of one shape; mm along each axis.

    Raises:
        UserError: A file cannot be read or is not a mask, the two are on different grids, or a value has no label.
    """
    _, prediction, reference = pair
    truth = read_label(reference)
    masks = read_label(prediction, truth.grid), truth
    difference = grid_difference(masks[0].grid, masks[1].grid)
    if difference:
        raise UserError(
            f"{prediction} is not on the grid of its reference {reference}: {difference}. "
            "Resample the prediction to the grid of the scan."
        )
    encoded: list[np.ndarray] = []
    for file, mask in zip((prediction, reference), masks, strict=True):
        try:
            encoded.append(labels.encode(mask.array))
        except ValueError as error:
            raise UserError(f"{file}: {error}. Declare every value that occurs in the masks.") from None
    return encoded[0], encoded[1], masks[0 if masks[1].grid.assumed else 1].grid.spacing


def _score_pair(
    pair: Pair,
    labels: Labels,
    metrics: Sequence[Metric],
    tolerance: Mapping[str, float] | None,
    change: Change | None,
) -> Scored:
    """Read one scan, count the voxels of every pair of classes and score it."""
    case, prediction, reference = pair
    before, truth, spacing = read_pair(pair, labels)
    mask = change(before, spacing) if change else before
    structures = labels.structures
    try:
        counts, found = count_and_score(mask, truth, structures, len(labels), IGNORE, metrics, spacing, tolerance)
    except ValueError as error:
        raise UserError(f"{prediction} against {reference}: {error}. Fix the metric, or leave it out.") from error
    counted = [(score, {key: getattr(score, key) for key in ("label", "name", *COUNTS, "status")}) for score in found]
    volume = math.prod(spacing) / 1000 if len(spacing) == 3 else math.nan
    changed = _changed_voxels(before, mask, structures, len(labels)) if change else {}
    return counts, [
        {
            "case": case,
            **fields,
            **{ml: fields[count] * volume for ml, count in zip(VOLUMES, COUNTS, strict=True)},
            **({POSTPROCESSED: changed[score.name]} if change else {}),
            **score.scores,
        }
        for score, fields in counted
    ]


def _changed_voxels(
    before: np.ndarray, after: np.ndarray, structures: Mapping[str, Sequence[int]], n_classes: int
) -> dict[str, int]:
    """Voxels of each structure in only one of two masks."""
    counts = structure_counts(confusion(after, before, n_classes), structures)
    return {name: both.reference + both.prediction - 2 * both.shared for name, both in counts.items()}
