"""Predictions against several raters and their consensus, beside the agreement of the raters with each other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.data.labels import Labels
from segment.errors import UserError
from segment.evaluation.match import pair_folders
from segment.evaluation.score import score_pairs
from segment.metrics.metric import Metric, MetricInfo
from segment.runs.scans import metric_columns, scan_rows
from segment.statistics.bootstrap import bootstrap_interval, mean_of_means
from segment.text import table

KEY = "raters"
FILE = "raters.csv"
OURS = "prediction"
_COLUMNS = ("prediction", "reference")


def named_raters(folders: Sequence[Path]) -> dict[str, Path]:
    """Names of the raters: those of their folders, or their whole paths where two are the same.

    Raises:
        UserError: A folder is given twice, is not a folder, or is called like what it is compared with.
    """
    names = [folder.absolute().name for folder in folders]
    if len(set(names)) < len(names) or {OURS, "majority", "staple"} & set(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise UserError(f"references=[{','.join(names)}]: the same folder is given twice. Give one folder per rater.")
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"references: {folder} is not a folder. Give the folder of the masks of every rater.")
    return dict(zip(names, folders, strict=True))


def score_raters(
    predictions: Path,
    raters: Mapping[str, Path],
    consensus: Mapping[str, Path],
    labels: Labels,
    metrics: Sequence[Metric],
    tolerance: Mapping[str, float],
    ignore_extra: bool = False,
) -> pd.DataFrame:
    """Score the predictions against every rater and every consensus, and the raters against each other.

    Args:
        predictions: Folder of the predictions.
        raters: Name of every rater to their folder.
        consensus: Name of every consensus to its folder.
        labels: The labels of the masks.
        metrics: Metrics to compute.
        tolerance: Tolerances of the structures.
        ignore_extra: Whether scans without a reference are left out.

    Returns:
        One row per (prediction, reference, scan, label): ``prediction`` (`OURS` or a rater), ``reference``, case,
        label, name, scores and status.
    """
    pairs = [(OURS, name, predictions, folder) for name, folder in {**raters, **consensus}.items()]
    pairs += [(one, other, raters[one], raters[other]) for one, other in itertools.combinations(raters, 2)]
    tables = []
    for first, second, *folders in pairs:
        files = pair_folders(folders[0], folders[1], ignore_extra)
        scored = score_pairs(files, labels, "all", None, metrics, tolerance, processes=True)
        columns = ["case", "label", "name", *metric_columns(scored), "status"]
        tables.append(scored[columns].assign(prediction=first, reference=second))
    scores = pd.concat(tables, ignore_index=True)
    return scores[[*_COLUMNS, *(column for column in scores if column not in _COLUMNS)]]


def rater_summary(scores: pd.DataFrame, raters: Sequence[str], infos: Sequence[MetricInfo]) -> dict[str, Any]:
    """Means of the foreground for every pair, and the predictions' agreement beside that of the raters.

    Args:
        scores: The result of `score_raters`.
        raters: Names of the raters.
        infos: The metrics.

    Returns:
        ``pairs``: ``{prediction, reference, METRIC: {mean, ci95, n}}`` of each; ``agreement``: by metric ``ours`` (mean
        over raters of the scores of every scan), ``human`` (mean over pairs of raters) and ``difference`` (ours minus
        human, scan by scan), each ``{mean, ci95, n}``.
    """
    found: dict[str, Any] = {"pairs": [], "agreement": {}}
    wide = {
        info.name: {pair: _wide(own, info.name) for pair, own in scores.groupby(list(_COLUMNS), sort=False)}
        for info in infos
    }
    for pair in scores[list(_COLUMNS)].drop_duplicates().itertuples(index=False, name=None):
        entry = {info.name: _statistics(wide[info.name][pair].to_numpy()) for info in infos}
        found["pairs"].append({**dict(zip(_COLUMNS, pair, strict=True)), **entry})
    for info in infos:
        ours = _mean_table([wide[info.name][OURS, name] for name in raters])
        human = _mean_table([wide[info.name][pair] for pair in itertools.combinations(raters, 2)])
        parts = {"ours": ours, "human": human, "difference": ours - human}
        found["agreement"][info.name] = {key: _statistics(part.to_numpy()) for key, part in parts.items()}
    return found


def rater_text(found: Mapping[str, Any], infos: Sequence[MetricInfo]) -> str:
    """The foreground of every pair, and ours beside the raters', as lines of text."""
    heads = ["prediction", "reference", *(info.heading for info in infos)]
    rows = [
        [pair["prediction"], pair["reference"], *(_decimal(pair[info.name]["mean"]) for info in infos)]
        for pair in found["pairs"]
    ]
    lines = [table(heads, rows, left=heads[:2], keys=2), ""]
    for info in infos:
        ours, human, apart = (found["agreement"][info.name][key] for key in ("ours", "human", "difference"))
        ends = apart["ci95"]
        interval = "" if ends is None else f", 95 % interval {ends[0]:+.4f} to {ends[1]:+.4f}"
        lines.append(
            f"{info.heading}: prediction and raters {_decimal(ours['mean'])}, raters among each other "
            f"{_decimal(human['mean'])} (difference {_decimal(apart['mean'], '+')}{interval})"
        )
    return "\n".join(lines) + "\n"


def _wide(scores: pd.DataFrame, column: str) -> pd.DataFrame:
    """Scores ``(scans, labels)``."""
    return scan_rows(scores.assign(split="all", fold=pd.NA), column).droplevel(["split", "fold"])


def _mean_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean of tables over those that have a score."""
    return pd.concat(tables).groupby(level=0, sort=False).mean()


def _statistics(values: np.ndarray) -> dict[str, Any]:
    mean, interval = mean_of_means(values), bootstrap_interval(values)
    scored = int(np.isfinite(values).any(axis=1).sum())
    return {"mean": None if np.isnan(mean) else mean, "ci95": interval and list(interval), "n": scored}


def _decimal(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.4f}"
