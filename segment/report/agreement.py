"""How predictions agree with references: precision and recall, volumes, confused labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from segment.errors import UserError
from segment.report.plots import STYLE, TEXT, WIDTH, as_svg, palette, short_name
from segment.runs.confusion import FILE as CONFUSION
from segment.runs.confusion import read_confusion
from segment.runs.folder import RunFolder
from segment.runs.precision_recall import read_curves
from segment.runs.scans import parted
from segment.text import printable

_MOST_LABELS = 12  # in a plot, and rows of the table of confused labels
_MOST_POINTS = 2000
_LIMITS = 1.96  # standard deviations


@dataclass(frozen=True)
class Agreement:
    """The parts of a section of the page; empty where a run lacks the file.

    Attributes:
        precision_recall: A plot.
        volumes: A plot.
        volume_rows: Label, number of scans, mean difference and limits of agreement as text.
        confusion: Names of the labels, and rows of the table: name, voxels, cells with share and colour.
        threshold: Probability that is marked in the plot of precision and recall.
    """

    precision_recall: Markup | None
    volumes: Markup | None
    volume_rows: list[list[str]]
    confusion: dict[str, Any] | None
    threshold: float = 0.5

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return any((self.precision_recall, self.volumes, self.confusion))


def agreement(run: RunFolder) -> Agreement:
    """The parts of the page about agreement.

    Args:
        run: A finished run or an evaluation.
    """
    differences = volume_differences(parted(run.scans)[0])
    return Agreement(
        _precision_recall(run),
        _volumes(differences) if len(differences) else None,
        _volume_rows(differences),
        _confusion(run),
    )


def volume_differences(scans: pd.DataFrame) -> pd.DataFrame:
    """The difference between predicted and reference volume of every structure that is in one of the masks.

    Args:
        scans: Table of scans.

    Returns:
        Columns name, mean (of the two volumes, in voxels) and percent (the difference in percent of that mean, from
        -200, missed, to 200, invented), in the order of the class indices.
    """
    ordered = scans.sort_values("label", kind="stable")
    mean = (ordered["predicted_voxels"] + ordered["reference_voxels"]) / 2
    percent = 100 * (ordered["predicted_voxels"] - ordered["reference_voxels"]) / mean.where(mean > 0)
    table = pd.DataFrame({"name": ordered["name"], "mean": mean, "percent": percent})
    return table.dropna().reset_index(drop=True)


def _precision_recall(run: RunFolder) -> Markup | None:
    try:
        curves = read_curves(run.path / "precision_recall.csv")
    except UserError:
        return None
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "recall"}):
        figure, axes = _square(len(curves))
        for (name, curve), colour in zip(list(curves.items())[:_MOST_LABELS], palette(len(curves)), strict=False):
            precision, recall, found = curve[4], curve[5], curve[0] + curve[1] > 0
            edge = [Stroke(linewidth=2.2, foreground=TEXT, alpha=0.55), Normal()]
            axes.plot(recall[found], precision[found], color=colour, linewidth=1.5, path_effects=edge)
            middle = len(recall) // 2
            style: dict[str, Any] = {"color": colour, "markeredgecolor": TEXT, "markersize": 6}
            axes.plot(recall[middle], precision[middle], "o", label=short_name(name), **style)
        axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        return _with_legend(figure, "Precision against recall over all voxels, by label", "recall")


def _volumes(differences: pd.DataFrame) -> Markup:
    names = list(dict.fromkeys(differences["name"]))
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "volumes"}):
        figure, axes = _square(len(names))
        shown = differences.iloc[:: max(1, -(-len(differences) // _MOST_POINTS))]
        for name, colour in list(zip(names, palette(len(names)), strict=True))[:_MOST_LABELS]:
            rows = shown[shown["name"] == name]
            points: dict[str, Any] = {"s": 16, "color": colour, "edgecolors": TEXT, "linewidths": 0.3}
            axes.scatter(rows["mean"], rows["percent"], label=short_name(name), zorder=3, **points)
        axes.axhline(0, color=TEXT, linewidth=0.9, linestyle="--")
        if len(names) == 1:
            low, middle, high = _limits(differences["percent"])
            for value, width in ((low, 0.8), (middle, 1.4), (high, 0.8)):
                axes.axhline(value, color=TEXT, linewidth=width)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        # Not the default, which writes powers in mathematical notation.
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.1)
        axes.set(xlabel="mean of both volumes (voxels)", ylabel="predicted - reference (% of the mean)")
        return _with_legend(figure, "Difference of the volumes against their mean, by label", "volumes")


def _square(labels: int) -> tuple[Figure, Axes]:
    """An empty plot with room for a legend."""
    figure = Figure(figsize=(WIDTH, 3.0 + 0.17 * -(-min(labels, _MOST_LABELS) // 3)), layout="constrained")
    axes = figure.subplots()
    axes.grid()
    axes.set_axisbelow(True)
    return figure, axes


def _with_legend(figure: Figure, title: str, name: str) -> Markup:
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2, handletextpad=0.4)
    return as_svg(figure, title, name)


def _limits(percent: pd.Series) -> tuple[float, float, float]:
    """Lower limit of agreement, mean and upper limit (Bland and Altman 1986)."""
    mean, spread = float(percent.mean()), _LIMITS * float(percent.std(ddof=1)) if len(percent) > 1 else float("nan")
    return mean - spread, mean, mean + spread


def _volume_rows(differences: pd.DataFrame) -> list[list[str]]:
    rows = []
    for name, group in differences.groupby("name", sort=False)["percent"]:
        low, mean, high = _limits(group)
        ends = "–" if np.isnan(low) else f"{low:+.1f} to {high:+.1f} %"
        rows.append([printable(name), str(len(group)), f"{mean:+.1f} %", ends])
    return rows


def _confusion(run: RunFolder) -> dict[str, Any] | None:
    """The table of confused labels as shares of every reference label, the background last."""
    try:
        table = read_confusion(run.path / CONFUSION)
    except UserError:
        return None
    names = [*table.index[1:], table.index[0]]
    if not 2 < len(names) <= _MOST_LABELS:
        return None
    ordered = table.loc[names, names]
    shares = ordered.div(ordered.sum(axis=1).where(lambda total: total > 0), axis=0)
    rows = []
    for name in names:
        cells = [
            {"text": "–" if np.isnan(share) else _percent(share), "right": other == name,
             "opacity": 0 if np.isnan(share) else round(0.6 * float(share) ** 0.5, 3)}
            for other, share in shares.loc[name].items()
        ]  # fmt: skip
        rows.append({"name": printable(name), "voxels": f"{ordered.loc[name].sum():,}", "cells": cells})
    return {"names": [printable(name) for name in names], "rows": rows}


def _percent(share: float) -> str:
    """A share in percent; a small one is not rounded to 0, nor a large one to 100."""
    text = f"{100 * share:.1f}"
    if text == "0.0" and share:
        return "< 0.1"
    return "> 99.9" if text == "100.0" and share < 1 else text
