"""Plots of a comparison: methods with their intervals, and the stability of their ranking."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from segment.evaluation.comparison.result import Comparison
from segment.evaluation.comparison.tables import significantly_worse
from segment.evaluation.comparison.wording import percent
from segment.report.plots import STYLE, TEXT, WIDTH, as_svg, short_name

MOST_METHODS = 40
"""Maximum number of methods in a plot; the best ones are shown."""

_BACKGROUND = "#030201"  # placeholder for the page's background colour
_BLUE = "#56b4e9"
_LARGEST = 190.0  # area of the blob of a rank with share 1, in square points


def method_intervals(comparison: Comparison, structure: str, name: str) -> Markup:
    """Draw each method's mean with its interval, best at the top; rings are significantly worse than the leader.

    Args:
        comparison: The comparison.
        structure: ``foreground`` or the name of a label.
        name: Unique word on the page, used as prefix of element ids.

    Returns:
        An SVG element.
    """
    names = comparison.ranking.names[:MOST_METHODS]
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure, axes = _rows(names)
        for row, method in enumerate(names):
            score = comparison.estimates[method][structure]
            if score.mean is None:
                continue
            if score.interval is not None:
                axes.plot(score.interval, (row, row), color=TEXT, linewidth=1.4, solid_capstyle="butt")
            worse = row > 0 and significantly_worse(comparison, comparison.pair(names[0], method, structure))
            inside = _BACKGROUND if worse else TEXT
            axes.plot(score.mean, row, "o", markersize=5, markerfacecolor=inside, markeredgecolor=TEXT, zorder=3)
        axes.set_xlabel(f"{short_name(structure)} {comparison.metric.heading}")
        title = f"{structure}: mean of every method with {percent(comparison.level)} interval"
        return Markup(as_svg(figure, title, name).replace(_BACKGROUND, "var(--ground)"))  # noqa: S704 - as in `as_svg`


def rank_shares(comparison: Comparison) -> Markup:
    """Draw how often each method takes each rank over resamples of the scans (blob plot, Wiesenfarth et al. 2021).

    Args:
        comparison: The comparison.

    Returns:
        An SVG element: one row per method, best at the top; the area of a blob is the share of resamples, the line is
        the interval of the rank.
    """
    ranking = comparison.ranking
    names = ranking.names[:MOST_METHODS]
    ranks = np.arange(1, len(names) + 1)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "ranks"}):
        figure, axes = _rows(names)
        for row, (low, high) in enumerate(ranking.intervals[: len(names)]):
            axes.plot((low, min(high, len(names))), (row, row), color=TEXT, linewidth=1.2)
            shares = ranking.shares[row, : len(names)]
            taken = shares > 0.001
            area = shares[taken] * _LARGEST / max(1.0, len(names) / 10)
            axes.scatter(ranks[taken], np.full(taken.sum(), row), s=area, color=_BLUE, edgecolors=TEXT, linewidths=0.5)
        axes.set_xlim(0.5, len(names) + 0.5)
        axes.set_xticks(ranks if len(names) <= 15 else np.unique([1, *ranks[4::5]]))
        axes.set_xlabel("rank over resamples of the scans")
        return as_svg(figure, "Share of the resamples at each rank", "ranks")


def _rows(names: Sequence[str]) -> tuple[Figure, Axes]:
    """An empty plot with a row for each method."""
    figure = Figure(figsize=(WIDTH, 0.6 + 0.27 * max(2, len(names))), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), [short_name(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    return figure, axes
