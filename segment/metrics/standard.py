"""The metrics that every table of scans has, and how a column reads of which nothing but its name is known."""

from __future__ import annotations

from segment.metrics.dice import Dice
from segment.metrics.iou import IoU
from segment.metrics.metric import DIAGONAL, Metric, MetricInfo

STANDARD: tuple[Metric, ...] = (Dice(), IoU())
"""Metrics of every ``scans.csv``, in the order of its columns."""

LEAD = STANDARD[0].info
"""The metric that runs are ranked by, and their worst scans found by, unless another is named."""


def info_of_column(name: str) -> MetricInfo:
    """How a column of scores reads that no metric was recorded for, as in files of before 2026-12.

    Args:
        name: The column.

    Returns:
        That of a standard metric; else a distance where the name ends in ``_mm``, of which less is better; else a
        share. The title is the name, in capitals up to five letters.
    """
    known = {metric.name: metric.info for metric in STANDARD}
    if name in known:
        return known[name]
    is_distance = name.endswith("_mm")
    word = name.removesuffix("_mm")
    title = word.upper() if len(word) <= 5 else word
    return MetricInfo(name, title, "mm", False, 0.0, DIAGONAL) if is_distance else MetricInfo(name, title)
