"""Plots as inline SVG for a page: text stays text, and axes take the text colour of the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from segment.metrics.metric import MetricInfo
from segment.text import printable
from segment.visual.pictures import colours

TEXT = "#010203"  # placeholder for the page's text colour; not in any palette
WIDTH = 5.0  # inches, 72 SVG units each
MOST_POINTS = 2000  # per strip plot; more would bloat the page, and single scans would be indistinguishable
_MOST_LABELS = 14  # maximum number of label curves
_LEGEND_COLUMNS = 3
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 8.5,
    "font.family": "sans-serif",
    "text.color": TEXT,
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": TEXT,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "path.simplify": True,
}


def distributions(scores: pd.DataFrame, metric: MetricInfo, name: str) -> Markup:
    """Draw the distribution of a metric over scans: a box (quartiles, median) per label and a point per scan.

    Args:
        scores: ``(scans, labels)``, NaN where a scan has no score; columns are names of labels.
        metric: The metric of the values; axes of shares end at 1 and start at the tenth below the minimum.
        name: Unique word on the page, used as prefix of element ids.

    Returns:
        An SVG element.
    """
    values = [scores[label].dropna().to_numpy() for label in scores.columns]
    few = sum(map(len, values)) <= MOST_POINTS
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.34 * len(values)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(values))
        line = {"color": TEXT, "linewidth": 0.8}
        axes.boxplot(
            values,
            positions=rows,
            orientation="horizontal",
            widths=0.6,
            showfliers=not few,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": TEXT, "linewidth": 1.6},
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": TEXT, "alpha": 0.5},
        )
        for row, (found, colour) in enumerate(zip(values, palette(len(values)), strict=True)):
            if few:
                # Multiples of the golden ratio spread evenly and deterministically.
                jitter = (np.arange(len(found)) * 0.618034 % 1 - 0.5) * 0.42
                points: dict[str, Any] = {"s": 13, "color": colour, "edgecolors": TEXT, "linewidths": 0.3, "zorder": 3}
                axes.scatter(found, row + jitter, **points)
        axes.set_yticks(rows, [short_name(label) for label in scores.columns])
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(printable(metric.heading))
        if metric.is_share:
            least = min(found.min(initial=1.0) for found in values)
            axes.set_xlim(np.floor(least * 10) / 10 - 0.02, 1.02)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return as_svg(figure, f"{metric.heading} of every scan, by label", name)


def curves(lines: Mapping[str, pd.Series], ylabel: str, name: str, smooth: bool = False) -> Markup:
    """Draw scalars over training steps.

    Args:
        lines: Name to values by step. The one named ``foreground``, else the first, is drawn in the text colour, the
            others in the colours of the labels, in this order; lines after the fourteenth are left out.
        ylabel: Label of the y axis.
        name: Unique word on the page, used as prefix of element ids.
        smooth: Draw the values pale, and as the line their running mean over a twentieth of the points.

    Returns:
        An SVG element.
    """
    main = "foreground" if "foreground" in lines else next(iter(lines))
    labels = [label for label in lines if label != main][:_MOST_LABELS]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        rows = -(-(len(labels) + 1) // _LEGEND_COLUMNS) if labels else 0
        figure = Figure(figsize=(WIDTH, 2.8 + 0.17 * rows), layout="constrained")
        axes = figure.subplots()
        for index, (label, colour) in enumerate(zip(labels, palette(len(labels)), strict=True)):
            style = ("-", "--")[index // 7 % 2]  # colours repeat after seven
            _line(axes, lines[label], smooth, label=short_name(label), color=colour, linestyle=style, linewidth=1.4)
        if main in lines:
            _line(axes, lines[main], smooth, label=short_name(main), color=TEXT, linewidth=2.0 if labels else 1.4)
        axes.set_xlabel("step")
        axes.set_ylabel(printable(ylabel))
        axes.grid()
        axes.margins(x=0.02)
        if len(lines) > 1:
            figure.legend(loc="outside lower center", ncols=_LEGEND_COLUMNS, columnspacing=1.2, handlelength=1.6)
        return as_svg(figure, f"{ylabel} over training steps", name)


def _line(axes: Axes, values: pd.Series, smooth: bool, color: str, linewidth: float, **style: Any) -> None:
    """One curve, edged so that a light colour is visible on a light page."""
    draw = partial(axes.plot, values.index.to_numpy(), color=color)
    shown = values
    if smooth and len(values) > 40:
        draw(values.to_numpy(), linewidth=0.6, alpha=0.25)
        shown = values.rolling(len(values) // 20, min_periods=1, center=True).mean()
    edge = [Stroke(linewidth=linewidth + 0.7, foreground=TEXT, alpha=0.55), Normal()] if color != TEXT else []
    marker = "." if len(values) < 3 else ""
    draw(shown.to_numpy(), linewidth=linewidth, path_effects=edge, marker=marker, **style)


def palette(count: int) -> list[str]:
    """Colours of labels, as in the pictures."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours(count + 1)[1:]]


def short_name(label: object) -> str:
    """A printable name, cut to 24 characters for an axis."""
    text = printable(label)
    return text if len(text) <= 24 else f"{text[:23]}…"


def as_svg(figure: Figure, title: str, name: str) -> Markup:
    """Convert a figure drawn in `STYLE` to an SVG element: no prolog, no metadata, the page's text colour.

    Args:
        figure: The figure.
        title: Description for screen readers.
        name: Unique word on the page, used as prefix of element ids.

    Returns:
        An SVG element.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph"
        )  # missing glyphs only affect measuring; browsers have other fonts
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    whole = buffer.getvalue()
    box = re.search(r'viewBox="([\d. -]+)"', whole)
    inner = whole[whole.index(">", whole.index("<svg")) + 1 :]
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    inner = re.sub(r'\bid="', f'id="{name}-', inner)
    inner = re.sub(r'href="#', f'href="#{name}-', inner)
    inner = inner.replace("url(#", f"url(#{name}-").replace(TEXT, "currentColor")
    head = Markup('<svg class="plot" role="img" aria-label="{}" viewBox="{}">').format(printable(title), box and box[1])
    return head + Markup(inner)  # noqa: S704 - drawn by matplotlib, whose texts are escaped
