"""Metric descriptions recorded in ``summary.json``, so that a run can be read without the code of its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import StrictBool

from segment.metrics.metric import DIAGONAL, MEASURED, MetricInfo
from segment.metrics.standard import info_of_column
from segment.text import printable
from segment.validation import Number, one_of

KEY = "metrics"


@dataclass(frozen=True)
class MetricRecord:
    """The description of one metric in a summary; see `segment.metrics.metric.MetricInfo`."""

    title: str
    unit: str
    higher_is_better: StrictBool
    perfect: Number
    penalty: Number | Annotated[str, one_of([DIAGONAL, MEASURED])]


def record(infos: Iterable[MetricInfo]) -> dict[str, dict[str, Any]]:
    """The descriptions that a summary records: name -> ``{title, unit, higher_is_better, perfect, penalty}``."""
    return {info.name: {key: value for key, value in asdict(info).items() if key != "name"} for info in infos}


def metric_info(summary: Mapping[str, Any], column: str) -> MetricInfo:
    """Describe a column of scores.

    Args:
        summary: Content of ``summary.json``; empty for a table of scans without a summary.
        column: The column of ``scans.csv``.

    Returns:
        The description in the summary, in printable text; if there is none, derived from the column name.
    """
    entry = summary.get(KEY, {}).get(column)
    if entry is None:
        info = info_of_column(column)
        return MetricInfo(**(vars(info) | {"title": printable(info.title)}))
    return MetricInfo(
        name=column,
        title=printable(entry["title"]),
        unit=printable(entry["unit"]),
        higher_is_better=entry["higher_is_better"],
        perfect=float(entry["perfect"]),
        penalty=entry["penalty"] if entry["penalty"] in (DIAGONAL, MEASURED) else float(entry["penalty"]),
    )


def metric_infos(summary: Mapping[str, Any]) -> list[MetricInfo]:
    """The descriptions of all metrics of a summary, in order."""
    return [metric_info(summary, name) for name in summary["foreground"]]


def recorded_infos(summaries: Iterable[Mapping[str, Any]]) -> list[MetricInfo]:
    """The metrics recorded in any of several summaries; the first description of each metric counts."""
    found: dict[str, MetricInfo] = {}
    for summary in summaries:
        for name in summary.get(KEY, {}):
            found.setdefault(name, metric_info(summary, name))
    return list(found.values())
