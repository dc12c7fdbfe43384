"""Plots of a comparison: the methods with their intervals, and how far their ranking holds."""

from __future__ import annotations

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from segment.report.comparison import FOREGROUND, Comparison
from segment.report.conclusion import metric_title, percent
from segment.report.plots import STYLE, TEXT, WIDTH, as_svg, short_name
from segment.report.tables import shown_worse

MOST_METHODS = 40
"""Methods that a plot shows, the best ones."""

_GROUND = "#030201"  # stands for the page's ground while drawing
_BLUE = "#56b4e9"
_LARGEST = 190.0  # area of the blob of a rank that is always taken, in square points


def method_intervals(comparison: Comparison) -> Markup:
    """Draw each method's mean with its interval, best above; a ring where it is shown to be worse than the leader.

    Args:
        comparison: The comparison; of its foreground and of up to three labels each has a panel of its own.

    Returns:
        An SVG element.
    """
    names = comparison.ranking.names[:MOST_METHODS]
    few = len(comparison.structures) <= 4
    structures = comparison.structures if few else (FOREGROUND,)
    columns = min(2, len(structures))
    rows = -(-len(structures) // columns)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "methods"}):
        size = (WIDTH * (1.6 if columns > 1 else 1.0), rows * (0.75 + 0.27 * len(names)))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes, structure in zip(panels, structures, strict=False):
            for row, name in enumerate(names):
                score = comparison.estimates[name][structure]
                if score.mean is None:
                    continue
                if score.interval is not None:
                    axes.plot(score.interval, (row, row), color=TEXT, linewidth=1.4, solid_capstyle="butt")
                worse = row > 0 and shown_worse(comparison, comparison.pair(names[0], name, structure))
                axes.plot(score.mean, row, "o", markersize=5.5, color=TEXT, zorder=3)
                if worse:
                    axes.plot(score.mean, row, "o", markersize=3.5, color=_GROUND, zorder=4)
            axes.set_yticks(range(len(names)), [short_name(name) for name in names])
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
            axes.set_xlabel(f"{short_name(structure)} {metric_title(comparison.metric)}")
            axes.grid(axis="x")
            axes.set_axisbelow(True)
        for axes in panels[len(structures) :]:
            axes.set_axis_off()
        title = f"Mean of every method with its {percent(comparison.level)} interval"
        return Markup(as_svg(figure, title, "methods").replace(_GROUND, "var(--ground)"))


def rank_shares(comparison: Comparison) -> Markup:
    """Draw how often each method takes each rank when the scans are drawn anew (blob plot, Wiesenfarth et al. 2021).

    Args:
        comparison: The comparison.

    Returns:
        An SVG element: a row a method, best above; the area of a blob is the share of the resamples, the line the
        interval of the rank.
    """
    ranking = comparison.ranking
    names = ranking.names[:MOST_METHODS]
    ranks = np.arange(1, len(names) + 1)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "ranks"}):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.27 * max(3, len(names))), layout="constrained")
        axes = figure.subplots()
        for row, (low, high) in enumerate(ranking.intervals[: len(names)]):
            axes.plot((low, min(high, len(names))), (row, row), color=TEXT, linewidth=1.2)
            shares = ranking.shares[row, : len(names)]
            taken = shares > 0.001
            area = shares[taken] * _LARGEST / max(1.0, len(names) / 10)
            axes.scatter(ranks[taken], np.full(taken.sum(), row), s=area, color=_BLUE, edgecolors=TEXT, linewidths=0.5)
        axes.set_yticks(range(len(names)), [short_name(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0.5, len(names) + 0.5)
        axes.set_xticks(ranks if len(names) <= 15 else np.unique([1, *ranks[4::5]]))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("rank over resamples of the scans")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return as_svg(figure, "Share of the resamples at each rank", "ranks")
