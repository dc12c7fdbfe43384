"""A comparison over several data sets as files: one page, tables, and a folder with the comparison on each data set."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from segment.evaluation.comparison.across import Across, as_csv, as_json
from segment.evaluation.comparison.compare import compare
from segment.evaluation.comparison.wording import percent
from segment.files import write_json, write_text
from segment.report.comparison_page import write_comparison
from segment.report.html import render
from segment.report.plots import STYLE, TEXT, WIDTH, as_svg, short_name


def write_across(folder: Path, across: Across, resamples: int, seed: int, margin: float | None) -> None:
    """Write ``report.html``, ``comparison.csv`` and ``comparison.json``, and a folder for every data set.

    Args:
        folder: Created if missing.
        across: The result of `segment.evaluation.comparison.across.compare_datasets`.
        resamples: Number of resamples of the comparisons on the data sets.
        seed: Their random seed.
        margin: Their smallest relevant difference.
    """
    folders = dict(zip(across.datasets, _folders(across.datasets), strict=True))
    for name, methods in across.compared.items():
        comparison = compare(methods, across.level, resamples, seed, margin)
        write_comparison(folder / folders[name], [comparison], resamples, seed)
    write_text(folder / "comparison.csv", as_csv(across))
    write_json(folder / "comparison.json", as_json(across))
    page = render(
        "across.html.j2",
        scripts=["table.js"],
        title=f"{len(across.methods)} methods on {len(across.datasets)} data sets",
        across=across,
        metric=across.metric.heading,
        level=percent(across.level),
        figure="" if across.critical is None else critical_differences(across),
        folders=folders,
        rows=list(zip(across.methods, across.mean_ranks, across.scores, across.ranks, strict=True)),
    )
    write_text(folder / "report.html", page)


def critical_differences(across: Across) -> Markup:
    """Draw the mean ranks, with a bar over every group of methods that do not differ significantly (Demšar 2006).

    Args:
        across: A comparison of at least three methods.

    Returns:
        An SVG element.
    """
    names, ranks, critical = across.methods, across.mean_ranks, across.critical or 0.0
    below = 0.8 * len(across.groups) + 0.8  # the bars
    near = int(np.searchsorted(ranks, (1 + len(names)) / 2, side="right"))
    # The outermost methods are nearest to the axis, so that no lines cross.
    sides = [(0.85, "left", list(range(near))), (len(names) + 0.15, "right", list(range(near, len(names)))[::-1])]
    depth = below + max(near, len(names) - near)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "critical"}):
        figure = Figure(figsize=(WIDTH, 0.5 + 0.24 * (depth + 1.2)), layout="constrained")
        axes = figure.subplots()
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.xaxis.tick_top()
        axes.set_yticks([])
        axes.set_xlim(0.8, len(names) + 0.2)
        axes.set_ylim(depth, -1.2)
        axes.axhline(0, color=TEXT, linewidth=0.8)
        axes.set_xticks(range(1, len(names) + 1))
        axes.set_title("mean rank (1 is best)", fontsize=8.5)
        axes.plot((1, min(1 + critical, len(names))), (-0.4, -0.4), color=TEXT, linewidth=1.6)
        axes.text(1, -0.5, f"critical difference {critical:.2f}", fontsize=7.5, va="bottom")
        for row, group in enumerate(across.groups):
            ends = [ranks[names.index(name)] for name in (group[0], group[-1])]
            height = 0.5 + 0.8 * row
            axes.plot((ends[0] - 0.04, ends[1] + 0.04), (height, height), color=TEXT, linewidth=3)
        for edge, side, places in sides:
            for row, place in enumerate(places):
                height = below + row
                axes.plot((ranks[place], ranks[place], edge), (0, height, height), color=TEXT, linewidth=0.7)
                text = f"{short_name(names[place])} {ranks[place]:.2f}"
                axes.text(edge, height - 0.08, text, ha=side, va="bottom")
        return as_svg(figure, "Mean ranks; bars join methods that do not differ significantly", "critical")


def _folders(datasets: tuple[str, ...]) -> list[str]:
    """A distinct name of a folder for every data set."""
    names = [re.sub(r"[^\w.-]+", "_", name).strip(".") or "_" for name in datasets]
    return [f"{name}-{place}" if names.count(name) > 1 else name for place, name in enumerate(names)]
