"""The page of `segment monitor`: conclusion, tests, charts over time and the scans to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from segment.files import plain, write_json, write_text
from segment.report.html import render
from segment.report.plots import curves
from segment.serving.monitor import Monitored, as_plain

CHARTS = 6
PAGE, CONTENT = "drift.html", "drift.json"


def write_drift(folder: Path, found: Monitored) -> None:
    """Write ``drift.html`` and ``drift.json``.

    Args:
        folder: Created if missing.
        found: From `segment.serving.monitor.monitor`.
    """
    charts = []
    for number, (name, chart) in enumerate(list(found.charts.items())[:CHARTS]):
        index = np.arange(1, len(chart.averages) + 1)
        lines = {"average": chart.averages, "upper limit": chart.limits, "lower limit": -chart.limits}
        series = {key: pd.Series(values, index=index) for key, values in lines.items()}
        since = chart.first_out
        text = "inside its limits" if since is None else f"outside its limits since scan {since + 1}"
        charts.append((name, text, curves(series, "standard deviations", f"chart{number}")))
    write_text(folder / PAGE, render("drift.html.j2", title="Drift", found=found, charts=charts))
    write_json(folder / CONTENT, plain(as_plain(found)))
