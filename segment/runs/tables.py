"""A summary as a pandas table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

COLUMNS = ("mean", "sd", "median", "low", "high", "n")


def summary_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Scores of the foreground and of every label.

    Args:
        summary: The result of `segment.runs.summary.summarise`, or what ``summary.json`` holds.

    Returns:
        Index (structure, metric), the foreground first; float64 columns mean, sd, median, low and high (ends of the
        95 % interval), NaN where undefined; and n, the number of scored scans.
    """
    rows = {}
    for structure, metrics in {"foreground": summary["foreground"], **summary["labels"]}.items():
        for metric, scores in metrics.items():
            low, high = scores["ci95"] or (None, None)
            rows[structure, metric] = {**scores, "low": low, "high": high}
    table = pd.DataFrame([[row[column] for column in COLUMNS] for row in rows.values()], columns=list(COLUMNS))
    table.index = pd.MultiIndex.from_tuples(rows, names=["structure", "metric"])
    return table.astype({column: "float64" if column != "n" else "int64" for column in COLUMNS})
