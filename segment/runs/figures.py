"""Statistics and counts over the scans of one split, for ``summary.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from segment.metrics.standard import LEAD
from segment.runs.scans import scan_tables
from segment.statistics.bootstrap import bootstrap_intervals, mean_of_means

EMPTIES = ("both_empty", "missed", "invented")


def figures_of(scans: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """Statistics and counts over the scans of one split, see `segment.runs.summary.summarise`.

    Args:
        scans: Their table.
        columns: The metric columns.
    """
    tables = scan_tables(scans, columns)
    names = [str(name) for name in tables[LEAD.name].columns]
    statistics = _statistics([table.to_numpy() for table in tables.values()])
    found = dict(zip(tables, statistics, strict=True))
    counts = pd.crosstab(scans["status"], scans["name"]).reindex(index=EMPTIES, columns=names, fill_value=0)
    return {
        "foreground": {metric: foreground for metric, (foreground, *_) in found.items()},
        "labels": {
            name: {metric: own[place] for metric, own in found.items()} for place, name in enumerate(names, start=1)
        },
        "scans": len(tables[LEAD.name]),
        "empty": {status: {name: int(counts.loc[status, name]) for name in names} for status in EMPTIES},
    }


def _statistics(metrics: Sequence[np.ndarray]) -> list[list[dict[str, Any]]]:
    """Mean, spread and interval of scores (scans, labels) by each metric: of the foreground, then of each label."""
    parts = [[values, *(values[:, [label]] for label in range(values.shape[1]))] for values in metrics]
    intervals = iter(bootstrap_intervals([table for tables in parts for table in tables]))
    return [_described(tables, [next(intervals) for _ in tables]) for tables in parts]


def _described(tables: Sequence[np.ndarray], intervals: Sequence[tuple[float, float] | None]) -> list[dict[str, Any]]:
    """The statistics of tables (scans, labels); NaN where undefined."""
    per_scan = pd.concat([pd.DataFrame(table).mean(axis=1) for table in tables], axis=1, ignore_index=True)
    sd, median, n = per_scan.std(ddof=1), per_scan.median(), per_scan.count()
    quartiles = per_scan.quantile([0.25, 0.75])
    return [
        {
            "mean": mean_of_means(table),
            "sd": float(sd[place]),
            "median": float(median[place]),
            "iqr": quartiles[place].tolist() if n[place] else None,
            "ci95": None if interval is None else list(interval),
            "n": int(n[place]),
        }
        for place, (table, interval) in enumerate(zip(tables, intervals, strict=True))
    ]
