"""How predictions agree with references: precision and recall, detected lesions, volumes, confused labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from segment.metrics.calibration import Calibration, calibration
from segment.metrics.detection import IOUS, RATES
from segment.report.plots import STYLE, TEXT, WIDTH, as_svg, palette, short_name
from segment.runs.confusion import FILE as CONFUSION
from segment.runs.confusion import read_confusion
from segment.runs.detection import FILE as DETECTION
from segment.runs.detection import KEY as DETECTION_KEY
from segment.runs.detection import detection_rows, read_detection
from segment.runs.folder import RunFolder
from segment.runs.precision_recall import counts_of, read_curves
from segment.runs.scans import parted
from segment.runs.volumes import volume_agreement, volume_differences, volume_unit
from segment.statistics.agreement import limits_of_agreement
from segment.text import printable

_MOST_LABELS = 12  # in a plot, and rows of the table of confused labels
_MOST_POINTS = 2000
_PRECISIONS = (f"AP at {IOUS[0]:g}", f"AP at {IOUS[-1]:g}")
_DETECTION_HEADS = ("lesions", "predicted", "mAP", *_PRECISIONS, "FROC", *(f"at {rate:g}" for rate in RATES))


@dataclass(frozen=True)
class Agreement:
    """The parts of a section of the page; empty where a run lacks the file.

    Attributes:
        precision_recall: A plot.
        reliability: A plot.
        calibration: Label, expected calibration error, Brier score and negative log-likelihood as text.
        volumes: A plot.
        volume_rows: Label, number of scans, bias, limits of agreement and both intraclass correlations as text.
        froc: A plot.
        detection: What scores a lesion, heads and rows of the table of detected lesions as text.
        confusion: Names of the labels, and rows of the table: name, voxels, cells with share and colour.
        threshold: Probability that is marked in the plot of precision and recall.
    """

    precision_recall: Markup | None
    reliability: Markup | None
    calibration: list[list[str]]
    volumes: Markup | None
    volume_rows: list[list[str]]
    froc: Markup | None
    detection: dict[str, Any] | None
    confusion: dict[str, Any] | None
    threshold: float = 0.5

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return any((self.precision_recall, self.volumes, self.detection, self.confusion))


def agreement(run: RunFolder) -> Agreement:
    """The parts of the page about agreement.

    Args:
        run: A finished run or an evaluation.
    """
    scans = parted(run.scans)[0]
    differences = volume_differences(scans)
    curves = _probability_curves(run)
    detected = run.summary.get(DETECTION_KEY)
    calibrated = {name: calibration(counts_of(curve)) for name, curve in curves.items()}
    return Agreement(
        _precision_recall(curves) if curves else None,
        _reliability(calibrated) if calibrated else None,
        [
            [printable(name), *(f"{value:.4f}" for value in (own.ece, own.brier, own.nll))]
            for name, own in calibrated.items()
            if own.voxels.any()
        ],
        _volumes(differences, volume_unit(scans)) if len(differences) else None,
        _volume_rows(volume_agreement(scans)),
        _froc(run) if detected else None,
        detected and {"score": detected["score"], "heads": _DETECTION_HEADS, "rows": detection_rows(detected)},
        _confusion(run),
    )


def _probability_curves(run: RunFolder) -> dict[str, np.ndarray]:
    """The curve of every structure; empty where the run has none."""
    try:
        return read_curves(run.path / "precision_recall.csv")
    except UserError:
        return {}


def _reliability(calibrated: Mapping[str, Calibration]) -> Markup:
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "reliability"}):
        figure, axes = _square(len(calibrated))
        axes.plot([0, 1], [0, 1], color=TEXT, linewidth=0.9, linestyle="--")
        for (name, own), colour in zip(list(calibrated.items())[:_MOST_LABELS], palette(len(calibrated)), strict=False):
            edge = [Stroke(linewidth=2.2, foreground=TEXT, alpha=0.55), Normal()]
            style: dict[str, Any] = {"color": colour, "markersize": 4, "path_effects": edge}
            axes.plot(own.probability, own.observed, "o-", linewidth=1.5, label=short_name(name), **style)
        axes.set(xlabel="probability", ylabel="share in the reference", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        return _with_legend(figure, "Share of the voxels that belong to a label against its probability", "reliability")


def _precision_recall(curves: Mapping[str, np.ndarray]) -> Markup:
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


def _froc(run: RunFolder) -> Markup | None:
    """Sensitivity against false positives per scan; None without a curve."""
    try:
        curves = read_detection(run.path / DETECTION)
    except UserError:
        return None
    if not curves:
        return None
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "froc"}):
        figure, axes = _square(len(curves))
        for (name, curve), colour in zip(list(curves.items())[:_MOST_LABELS], palette(len(curves)), strict=False):
            rates, sensitivity = (np.append(0, part[:: -(-curve.shape[1] // _MOST_POINTS)]) for part in curve[1:])
            edge = [Stroke(linewidth=2.2, foreground=TEXT, alpha=0.55), Normal()]
            axes.plot(rates, sensitivity, color=colour, linewidth=1.5, path_effects=edge, label=short_name(name))
            axes.plot(curve[1, -1], curve[2, -1], "o", color=colour, markeredgecolor=TEXT, markersize=6)
        axes.set(xlabel="false positives per scan", ylabel="sensitivity", ylim=(-0.02, 1.02))
        axes.set_xlim(-0.1, RATES[-1])
        return _with_legend(figure, "Share of the lesions found against false positives per scan", "froc")


def _volumes(differences: pd.DataFrame, unit: str) -> Markup:
    names = list(dict.fromkeys(differences["name"]))
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "volumes"}):
        figure, axes = _square(len(names))
        shown = differences.iloc[:: max(1, -(-len(differences) // _MOST_POINTS))]
        for name, colour in list(zip(names, palette(len(names)), strict=True))[:_MOST_LABELS]:
            rows = shown[shown["name"] == name]
            points: dict[str, Any] = {"s": 16, "color": colour, "edgecolors": TEXT, "linewidths": 0.3}
            axes.scatter(rows["mean"], rows["percent"], label=short_name(name), zorder=3, **points)
        axes.axhline(0, color=TEXT, linewidth=0.9, linestyle="--")
        limits = limits_of_agreement(differences["percent"].to_numpy()) if len(names) == 1 else None
        for name in ("bias", "low", "high") if limits is not None else ():
            axes.axhline(getattr(limits, name), color=TEXT, linewidth=1.4 if name == "bias" else 0.8)
            axes.axhspan(*getattr(limits, f"{name}_interval"), color=TEXT, alpha=0.12, linewidth=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        # Not the default, which writes powers in mathematical notation.
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.1)
        axes.set(xlabel=f"mean of both volumes ({unit})", ylabel="predicted - reference (% of the mean)")
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


def _volume_rows(agreement: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for name, found in agreement.items():
        limits = found["percent"] or {}
        bias, low, high = (
            _with_interval(limits.get(key), limits.get(f"{key}_ci95"), "+.1f", " %") for key in ("bias", "low", "high")
        )
        correlations = [found[key] or {} for key in ("icc_agreement", "icc_consistency")]
        texts = [_with_interval(one.get("value"), one.get("ci95"), ".3f", "") for one in correlations]
        rows.append([printable(name), str(found["n"]), bias, low, high, *texts])
    return rows


def _with_interval(value: float | None, interval: Sequence[float] | None, form: str, unit: str) -> str:
    """A number with its interval; a dash if it is not defined."""
    if value is None or interval is None or np.isnan(value):
        return "–"
    ends = "" if np.isnan(interval).any() else f" ({interval[0]:{form}} to {interval[1]:{form}})"
    return f"{value:{form}}{unit}{ends}"


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
