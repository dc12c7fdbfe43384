"""Scores of masks on disk against their references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from segment.data.labels import IGNORE, Labels
from segment.errors import UserError
from segment.io.geometry import grid_difference
from segment.io.images import read_label
from segment.metrics.metric import Metric
from segment.metrics.scan import score_scan
from segment.metrics.standard import STANDARD
from segment.runs.scans import COLUMNS, COUNTS, OVERLAPS


def score_pairs(
    pairs: Sequence[tuple[str, Path, Path]],
    labels: Labels,
    split: str,
    fold: int | None,
    metrics: Sequence[Metric] = STANDARD,
    workers: int = 2,
    advance: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Score masks on disk against their references.

    Args:
        pairs: (case id, prediction file, reference file).
        labels: What the values in the masks stand for.
        split: Split the scans belong to, e.g. ``val``.
        fold: Fold the scans belong to; None when there is none.
        metrics: What is scored; the standard ones are, whether they are named or not.
        workers: Scans that are read and scored at the same time, in threads.
        advance: Called with the case id whenever one more scan is done, e.g. to move a progress bar.

    Returns:
        Table with `COLUMNS`, then a column for every further metric; one row a (scan, label), scans in the order of
        `pairs`, labels in that of their indices.

    Raises:
        UserError: A file cannot be read or is no mask, the two masks of a scan lie on different grids, a mask holds
            a value that no label has, or a metric gives no finite number.
    """
    named = {metric.name: metric for metric in (*STANDARD, *metrics)}
    further = [name for name in named if name not in OVERLAPS]

    def score(pair: tuple[str, Path, Path]) -> list[dict[str, Any]]:
        return _score_pair(pair, labels, list(named.values()))

    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for (case, *_), scores in zip(pairs, pool.map(score, pairs), strict=True):
                rows += scores
                if advance is not None:
                    advance(case)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    scans = pd.DataFrame(rows, columns=["case", "label", "name", *OVERLAPS, *COUNTS, "status", *further])
    scans["split"] = split
    scans["fold"] = pd.Series([fold] * len(scans), dtype="Int64")
    return scans[[*COLUMNS, *further]]


def _score_pair(pair: tuple[str, Path, Path], labels: Labels, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Read and score one scan."""
    case, prediction, reference = pair
    masks = read_label(prediction), read_label(reference)
    difference = grid_difference(masks[0].grid, masks[1].grid)
    if difference:
        raise UserError(
            f"{prediction} does not lie on the grid of its reference {reference}: {difference}. "
            "Resample the prediction onto the scan's own grid."
        )
    encoded = []
    for file, mask in zip((prediction, reference), masks, strict=True):
        try:
            encoded.append(labels.encode(mask.array))
        except ValueError as error:
            raise UserError(f"{file}: {error}. Declare every value that the masks hold.") from None
    spacing = masks[1].grid.spacing
    try:
        found = score_scan(encoded[0], encoded[1], labels.structures, len(labels), IGNORE, metrics, spacing)
    except ValueError as error:
        raise UserError(f"{prediction} against {reference}: {error}. Mend the metric, or leave it out.") from error
    counted = [(score, {key: getattr(score, key) for key in ("label", "name", *COUNTS, "status")}) for score in found]
    return [{"case": case, **fields, **score.scores} for score, fields in counted]
