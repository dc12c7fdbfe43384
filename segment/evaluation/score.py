"""Scores masks on disk against their references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.data.labels import IGNORE, Labels
from segment.errors import UserError
from segment.io.geometry import grid_difference
from segment.io.images import read_label
from segment.metrics.metric import Metric
from segment.metrics.scan import count_and_score
from segment.metrics.standard import STANDARD
from segment.runs.scans import COLUMNS, COUNTS, GROUP, OVERLAPS


def score_pairs(
    pairs: Sequence[tuple[str, Path, Path]],
    labels: Labels,
    split: str,
    fold: int | None,
    metrics: Sequence[Metric] = STANDARD,
    tolerance: Mapping[str, float] | None = None,
    workers: int = 2,
    advance: Callable[[str], None] | None = None,
    groups: Mapping[str, str] | None = None,
    confusion: np.ndarray | None = None,
) -> pd.DataFrame:
    """Score masks on disk against their references.

    Args:
        pairs: (case id, prediction file, reference file).
        labels: Labels of the values in the masks.
        split: Split the scans belong to, e.g. ``val``.
        fold: Fold the scans belong to; None if there is none.
        metrics: Metrics to compute in addition to the standard ones.
        tolerance: Name of a structure to the distance in mm that counts as agreement, for metrics such as NSD.
        workers: Number of scans that are read and scored in parallel, in threads.
        advance: Called with the case id after each scan, e.g. to update a progress bar.
        groups: Case id to the patient, film or specimen of the scan, which makes scans dependent; empty for none.
        confusion: (class of the reference, class of the prediction) int64, to which the voxels of all scans are added.

    Returns:
        Table with `COLUMNS`, `GROUP` if any scan has one, then further metrics; one row per (scan, label), scans in the
        order of `pairs`, labels by class index.

    Raises:
        UserError: A file cannot be read or is not a mask, the two masks of a scan are on different grids, a mask
            contains a value that no label has, or a metric does not return a finite number.
    """
    named = {metric.name: metric for metric in (*STANDARD, *metrics)}
    further = [name for name in named if name not in OVERLAPS]

    def score(pair: tuple[str, Path, Path]) -> tuple[np.ndarray, list[dict[str, Any]]]:
        return _score_pair(pair, labels, list(named.values()), tolerance)

    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for (case, *_), (counts, scores) in zip(pairs, pool.map(score, pairs), strict=True):
                rows += scores
                if confusion is not None:
                    confusion += counts
                if advance is not None:
                    advance(case)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    scans = pd.DataFrame(rows, columns=["case", "label", "name", *OVERLAPS, *COUNTS, "status", *further])
    scans["split"] = split
    scans["fold"] = pd.Series([fold] * len(scans), dtype="Int64")
    scans[GROUP] = scans["case"].map(groups or {}).fillna("")
    known = [GROUP] if (scans[GROUP] != "").any() else []
    return scans[[*COLUMNS, *known, *further]]


def _score_pair(
    pair: tuple[str, Path, Path], labels: Labels, metrics: Sequence[Metric], tolerance: Mapping[str, float] | None
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Read one scan, count the voxels of every pair of classes and score it."""
    case, prediction, reference = pair
    masks = read_label(prediction), read_label(reference)
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
    spacing = masks[1].grid.spacing
    structures = labels.structures
    try:
        counts, found = count_and_score(
            encoded[0], encoded[1], structures, len(labels), IGNORE, metrics, spacing, tolerance
        )
    except ValueError as error:
        raise UserError(f"{prediction} against {reference}: {error}. Fix the metric, or leave it out.") from error
    counted = [(score, {key: getattr(score, key) for key in ("label", "name", *COUNTS, "status")}) for score in found]
    return counts, [{"case": case, **fields, **score.scores} for score, fields in counted]
