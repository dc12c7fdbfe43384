"""The page of label efficiency: Dice against the number of labelled scans."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from segment.evaluation.label_efficiency import SCRATCH, Efficiency
from segment.files import write_json, write_text
from segment.report.html import render
from segment.report.plots import STYLE, TEXT, WIDTH, as_svg, short_name


def write_label_page(folder: Path, efficiency: Efficiency) -> None:
    """Write ``report.html`` and ``efficiency.json``.

    Args:
        folder: Created if missing.
        efficiency: From `segment.evaluation.label_efficiency.label_efficiency`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "efficiency.json", efficiency.as_json())
    page = render(
        "labels.html.j2",
        title="Dice against the number of labelled scans",
        efficiency=efficiency,
        figure=_curves(efficiency),
        text=efficiency.text(),
    )
    write_text(folder / "report.html", page)


def _curves(efficiency: Efficiency) -> Markup:
    """One line per start, with the intervals; from scratch dashed."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "labels"}):
        figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        for start in dict.fromkeys(point.start for point in efficiency.points):
            points = [point for point in efficiency.points if point.start == start]
            numbers, means = [point.labelled for point in points], [point.mean for point in points]
            style = "--" if start == SCRATCH else "-"
            (line,) = axes.plot(numbers, means, f"o{style}", label=short_name(start), markersize=4)
            for point in points:
                if point.interval is not None:
                    axes.plot((point.labelled,) * 2, point.interval, color=line.get_color(), linewidth=0.8)
        axes.set_xscale("log", base=2)
        numbers = sorted({point.labelled for point in efficiency.points})
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.set_xlabel("labelled training scans")
        axes.set_ylabel("foreground Dice")
        axes.legend(frameon=False, labelcolor=TEXT)
        return as_svg(figure, "Dice against the number of labelled scans, one line per start", "labels")
