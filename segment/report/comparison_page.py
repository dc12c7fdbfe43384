"""A comparison of methods as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.evaluation.comparison.methods import Method
from segment.evaluation.comparison.publication import latex_table, markdown_report
from segment.evaluation.comparison.result import FOREGROUND, Comparison
from segment.evaluation.comparison.tables import (
    as_json,
    cost_table,
    medians_text,
    more_keys,
    pair_cells,
    pairs_csv,
    significantly_worse,
    subgroup_tables,
    variance_table,
)
from segment.evaluation.comparison.wording import interval_text, percent
from segment.files import write_json, write_text
from segment.report.comparison_plots import MOST_METHODS, method_intervals, rank_shares
from segment.report.html import data_url, error_colours, json_block, render
from segment.runs.folder import RunFolder
from segment.runs.voxels import read_voxels
from segment.statistics.paired import paired_differences
from segment.text import printable
from segment.visual.pictures import colours, contour_row, png

# Limits that keep the page small; the tables written next to it are complete.
_MOST_PAIRED = 10  # methods available in the pair plots
_MOST_VALUES = 500_000  # embedded scores for these plots
_MOST_SCANS = 5_000  # in the pair plots
_MOST_PAIR_ROWS = 4_000
_MOST_LABELS = 30  # label columns
_MOST_KEYS = 40
_MOST_COLUMNS = 6  # methods with their own column in the table of differences
_MOST_RUNS = 200
_LONGEST = 80  # characters per configuration value
_MOST_PANELS = 4
_PICTURES = 5


def write_comparison(folder: Path, comparisons: Sequence[Comparison], resamples: int, seed: int) -> None:
    """Write a comparison into a folder: ``report.html`` and ``comparison.csv``, ``.md``, ``.tex`` and ``.json``.

    Of several metrics, the files of the first are in the folder and those of each other one in a folder in it, which is
    named after its column; the pages link to each other.

    Args:
        folder: Created if missing.
        comparisons: Comparisons of the same methods, one by every metric.
        resamples: Number of resamples used.
        seed: Random seed used.
    """
    for place, comparison in enumerate(comparisons):
        own = folder / comparison.metric.name if place else folder
        write_text(own / "comparison.csv", pairs_csv(comparison))
        write_text(own / "comparison.md", markdown_report(comparison))
        write_text(own / "comparison.tex", latex_table(comparison))
        write_json(own / "comparison.json", as_json(comparison))
        links = [f"{one.metric.name}/report.html" if other else "report.html" for other, one in enumerate(comparisons)]
        others = [
            {"link": f"../{link}" if place else link, "metric": one.metric.heading, "conclusion": one.conclusion}
            for link, one in zip(links, comparisons, strict=True)
            if one is not comparison
        ]
        write_comparison_page(own / "report.html", comparison, resamples, seed, others)


def write_comparison_page(
    path: Path, comparison: Comparison, resamples: int, seed: int, others: Sequence[Mapping[str, str]] = ()
) -> None:
    """Write the page of a comparison.

    The page shows the conclusion, the methods with their intervals and ranks, every scan of a pair of methods, pictures
    of the scans that changed most, the statistics of all pairs, variance, configuration differences, cost and the runs.
    All text from files is escaped, only our own scripts can run, and the page makes no connections. Scans whose files
    were moved are listed but not drawn.

    Args:
        path: The HTML file.
        comparison: The result of `segment.evaluation.comparison.compare.compare`.
        resamples: Number of resamples used.
        seed: Random seed used.
        others: Link, metric and conclusion of the pages of other metrics.
    """
    leader, second, *_ = comparison.ranking.names
    pictures, missing = _pictures(comparison, leader, second)
    metric = comparison.metric
    paired = _paired(comparison)
    (cost_heads, costs), (variance_heads, variances) = cost_table(comparison), variance_table(comparison)
    shown_labels = comparison.structures[1 : 1 + _MOST_LABELS]
    page = render(
        "comparison.html.j2",
        scripts=["table.js", *(["comparison.js"] if paired else [])],
        title=f"Comparison of {len(comparison.methods)} methods",
        comparison=comparison,
        metric=metric.heading,
        others=others,
        level=percent(comparison.level),
        alpha=f"{1 - comparison.level:.3g}",
        leader=leader,
        second=second,
        shown_labels=shown_labels,
        labels_left_out=len(comparison.structures) - 1 - len(shown_labels),
        medians=medians_text(comparison),
        methods=_method_rows(comparison, shown_labels),
        intervals=[
            method_intervals(comparison, structure, f"methods{place}")
            for place, structure in enumerate(comparison.structures[:_MOST_PANELS])
        ],
        ranks=rank_shares(comparison) if len(comparison.methods) > 2 else "",
        most_methods=MOST_METHODS,
        paired=json_block(paired) if paired else "",
        chosen=paired,
        pictures=pictures,
        missing=missing,
        colours=_legend(comparison),
        error_colours=error_colours(),
        several_seeds=any(method.seeds > 1 for method in comparison.methods),
        pairs=_pair_rows(comparison),
        all_pairs=len(comparison.pairs),
        cost_heads=cost_heads,
        costs=costs,
        variance_heads=variance_heads,
        variances=variances,
        subgroups=subgroup_tables(comparison),
        differences=_differences(comparison),
        method_columns=[method.name for method in comparison.methods]
        if len(comparison.methods) <= _MOST_COLUMNS
        else [],
        more_keys=more_keys(comparison, _MOST_KEYS),
        runs=_runs(comparison),
        all_runs=sum(len(method.runs) for method in comparison.methods),
        resamples=resamples,
        seed=seed,
    )
    write_text(path, page)


def _method_rows(comparison: Comparison, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One entry per method, best first."""
    ranking, rows = comparison.ranking, []
    leader = ranking.names[0]
    pick = max if comparison.metric.higher_is_better else min
    best = {}
    for structure in (FOREGROUND, *labels):
        means = [scores[structure].mean for scores in comparison.estimates.values()]
        best[structure] = pick((round(mean, 4) for mean in means if mean is not None), default=None)
    for name, rank, ends in zip(ranking.names, ranking.ranks, ranking.intervals, strict=True):
        cells = []
        for structure in (FOREGROUND, *labels):
            score = comparison.estimates[name][structure]
            cells.append(
                {
                    "mean": score.mean,
                    "interval": interval_text(score.interval),
                    "best": score.mean is not None and round(score.mean, 4) == best[structure],
                    "worse": name != leader
                    and significantly_worse(comparison, comparison.pair(leader, name, structure)),
                }
            )
        rows.append({"name": name, "rank": rank, "ends": f"{ends[0]:.0f} to {ends[1]:.0f}", "cells": cells})
    return rows


def _scan_names(method: Method) -> list[str]:
    """Ids of the scans, with their split if there are several splits."""
    several = len({split for split, _ in method.scores.index}) > 1
    return [printable(f"{case} ({split})" if several else case) for split, case in method.scores.index]


def _paired(comparison: Comparison) -> dict[str, Any] | None:
    """Data of the pair plots: the scores of the best methods; None if there are too many scores."""
    table = comparison.methods[0].scores
    if len(table) > _MOST_SCANS or 2 * table.size > _MOST_VALUES:
        return None
    names = comparison.ranking.names[: min(_MOST_PAIRED, _MOST_VALUES // table.size)]
    methods = {method.name: method for method in comparison.methods}
    pairs = {}
    for first, name in enumerate(names):
        for second, other in enumerate(names[first + 1 :], first + 1):
            pairs[f"{first} {second}"] = [
                _pair_values(comparison, name, other, structure) for structure in comparison.structures
            ]
    return {
        "metric": comparison.metric.heading,
        "level": percent(comparison.level),
        "lower": not comparison.metric.higher_is_better,
        "perfect": comparison.metric.perfect,
        "structures": comparison.structures,
        "methods": names,
        "scans": _scan_names(comparison.methods[0]),
        "scores": [
            [[None if np.isnan(value) else round(float(value), 6) for value in column] for column in values.T]
            for values in (methods[name].scores.to_numpy() for name in names)
        ],
        "pairs": pairs,
    }


def _pair_values(comparison: Comparison, first: str, second: str, structure: str) -> list[Any]:
    """Difference, low and high end of its interval, Holm-corrected p, won, tied, lost, significance."""
    pair = comparison.pair(first, second, structure)
    low, high = pair.interval or (None, None)
    return [pair.difference, low, high, pair.p_holm, pair.won, pair.tied, pair.lost, pair.significant]


def _pair_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One entry per pair and structure in the order of the ranking, so that pairs of the leader come first."""
    names = comparison.ranking.names
    rows: list[dict[str, Any]] = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            for structure in comparison.structures:
                if len(rows) == _MOST_PAIR_ROWS:
                    return rows
                pair = comparison.pair(first, second, structure)
                keys = [pair.difference, pair.p, pair.p_holm, pair.p_wilcoxon, pair.effect]
                rows.append({"pair": pair, "keys": keys, "cells": pair_cells(pair)})
    return rows


def _pictures(comparison: Comparison, first: str, second: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Pictures of the scans on which two methods differ most, and ids of scans that cannot be drawn."""
    one, other = ({method.name: method for method in comparison.methods}[name] for name in (first, second))
    values = np.stack([one.scores.to_numpy(), other.scores.to_numpy()], axis=1)
    differences = paired_differences(values, np.array([0]), np.array([1]), comparison.metric.perfect)[0][:, 0, 0]
    sizes = np.nan_to_num(np.abs(differences))
    drawn, missing = [], []
    names = _scan_names(one)
    for place in np.argsort(-sizes, kind="stable")[:_PICTURES]:
        if not sizes[place]:
            break
        split, case = one.scores.index[place]
        try:
            # One at a time: a scan can take up most of the memory.
            pictures = _draw(_run_with_scan(one, split, case), _run_with_scan(other, split, case), split, case)
        except (UserError, ValueError, OSError):
            missing.append(names[place])
            continue
        runs = [_run_with_scan(method, split, case) for method in (one, other)]
        sides = [_with_seed(method, run) for method, run in zip((one, other), runs, strict=True)]
        captions = ["image", "reference", *(text for side in sides for text in (side, f"errors of {side}"))]
        drawn.append(
            {
                "case": names[place],
                "difference": differences[place],
                "pictures": [
                    {"name": name, "source": data_url("image/png", png(picture)), "shape": picture.shape}
                    for name, picture in zip(captions, pictures, strict=True)
                ],
            }
        )
    return drawn, missing


def _with_seed(method: Method, run: RunFolder) -> str:
    """The name of a method; of one with several seeds, with the seed of the run."""
    return f"{method.name}, seed {printable(run.config.get('seed', '–'))}" if method.seeds > 1 else method.name


def _run_with_scan(method: Method, split: str, case: str) -> RunFolder:
    """The first run of a method that scored a scan."""
    for run in method.runs:
        if ((run.scans["split"] == split) & (run.scans["case"] == case)).any():
            return run
    raise UserError(f"{printable(case)} was scored in no run.")


def _draw(first: RunFolder, second: RunFolder, split: str, case: str) -> list[np.ndarray]:
    """Image, reference and the contours of two runs on one slice."""
    scan, other = read_voxels(first, case, split), read_voxels(second, case, split)
    if scan.reference.shape != other.reference.shape or scan.n_classes != other.n_classes:
        raise UserError("its files in the two runs differ.")
    masks = [scan.prediction, other.prediction]
    letters = scan.oriented and other.oriented
    return contour_row(scan.image, scan.reference, masks, scan.n_classes, scan.grid.spacing, letters)


def _legend(comparison: Comparison) -> list[dict[str, str]]:
    """Colours of the labels in the pictures."""
    labels = comparison.structures[1:]
    return [
        {"name": name, "colour": f"rgb({red}, {green}, {blue})"}
        for name, (red, green, blue) in zip(labels, colours(len(labels) + 1)[1:].tolist(), strict=True)
    ][:_MOST_LABELS]


def _differences(comparison: Comparison) -> list[dict[str, Any]]:
    """Differences between the methods, most relevant first: each value and the methods that have it."""
    rows = []
    for key, values in list(comparison.choices.items())[:_MOST_KEYS]:
        by_value: dict[str, list[str]] = {}
        for name, value in values.items():
            text = "–" if value is None else printable(value)
            by_value.setdefault(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…", []).append(name)
        by_method = {name: value for value, names in by_value.items() for name in names}
        rows.append({"key": printable(key), "by_value": list(by_value.items()), "by_method": by_method})
    return rows


def _runs(comparison: Comparison) -> list[list[str]]:
    """Recorded path, seed, folds, start time and versions of each run."""
    rows = []
    for method in comparison.methods:
        for run in method.runs:
            found = run.provenance
            code, versions = _mapping(found.get("code")), _mapping(found.get("versions"))
            commit = str(code.get("commit") or "–")[:10] + (" + changes" if code.get("uncommitted_changes") else "")
            own = [run.config.get("seed", "–"), _folds(run), found.get("started", "–"), commit]
            made = [versions.get(name, "–") for name in ("segment", "torch", "monai")]
            texts = [printable(value) for value in (method.name, run.path, *own, *made)]
            rows.append([text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}" for text in texts])
    return rows[:_MOST_RUNS]


def _folds(run: RunFolder) -> str:
    return ", ".join(map(str, sorted(run.scans["fold"].dropna().unique()))) or "–"


def _mapping(value: Any) -> Mapping[str, Any]:
    """A mapping from a file; empty if the value is not a mapping."""
    return value if isinstance(value, dict) else {}
