"""The metrics of every table of scans, and the metric of a column of which only the name is known."""

from __future__ import annotations

from segment.metrics.dice import Dice
from segment.metrics.hausdorff import HausdorffDistance
from segment.metrics.iou import IoU
from segment.metrics.metric import DIAGONAL, Metric, MetricInfo
from segment.metrics.surface_dice import SurfaceDice

STANDARD: tuple[Metric, ...] = (Dice(), IoU())
"""Metrics of every ``scans.csv``, in the order of its columns."""

DEFAULT: tuple[Metric, ...] = (*STANDARD, HausdorffDistance(), SurfaceDice())
"""Metrics that are computed unless others are chosen, as in conf/train.yaml and conf/evaluate.yaml."""

LEAD = STANDARD[0].info
"""The default metric for ranking runs and finding their worst scans."""


def info_of_column(name: str) -> MetricInfo:
    """Infer the metric of a column of scores without a recorded metric, as in files from before 2026-12.

    Args:
        name: Name of the column.

    Returns:
        The standard metric of that name; otherwise a distance if the name ends in ``_mm`` (lower is better), or a
        score from 0 to 1. The title is the name, in capitals if it has up to five letters.
    """
    known = {metric.name: metric.info for metric in STANDARD}
    if name in known:
        return known[name]
    is_distance = name.endswith("_mm")
    short = name.removesuffix("_mm")
    title = short.upper() if len(short) <= 5 else short
    return MetricInfo(name, title, "mm", False, 0.0, DIAGONAL) if is_distance else MetricInfo(name, title)
