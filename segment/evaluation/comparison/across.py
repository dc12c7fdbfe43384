"""Comparison of methods over several data sets: their scores and ranks on each, and whether the mean ranks differ."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment.errors import UserError
from segment.evaluation.comparison.compare import trainings_of
from segment.evaluation.comparison.find import find_runs
from segment.evaluation.comparison.methods import Methods, read_methods
from segment.evaluation.comparison.wording import p_text, percent
from segment.files import read_mapping
from segment.metrics.metric import MetricInfo
from segment.runs.metrics import record
from segment.statistics.datasets import cliques, critical_difference, dataset_ranks, friedman, two_methods
from segment.text import printable, table

ENOUGH = 10
"""Data sets from which Friedman's test and Nemenyi's have some power (Demšar 2006)."""


@dataclass(frozen=True, eq=False)
class Across:
    """Methods on several data sets.

    Attributes:
        metric: Metric of the comparison.
        level: One minus the significance level.
        datasets: Names of the data sets.
        methods: Names of the methods, smallest mean rank first.
        scores: Foreground means ``(methods, datasets)``, in these orders.
        ranks: Ranks on every data set, the same shape.
        mean_ranks: ``(methods,)``.
        p: Friedman's test; Wilcoxon's signed-rank test over data sets for two methods.
        critical: Nemenyi's critical difference of mean ranks; None for two methods.
        groups: Names of methods that do not differ significantly, for every largest such group.
        compared: The methods on every data set, as `segment.evaluation.comparison.compare.compare` takes them.
    """

    metric: MetricInfo
    level: float
    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: np.ndarray
    ranks: np.ndarray
    mean_ranks: np.ndarray
    p: float
    critical: float | None
    groups: tuple[tuple[str, ...], ...]
    compared: Mapping[str, Methods]

    @property
    def conclusion(self) -> str:
        """What the tests say, in a sentence or two."""
        where = f"over {len(self.datasets)} data sets"
        best, *_, worst = self.methods
        if self.critical is None:
            return (
                f"{best} ranks before {worst} {where} (Wilcoxon's signed-rank test over data sets, {p_text(self.p)})."
            )
        test = f"Friedman's test, {p_text(self.p)}"
        if self.p >= 1 - self.level:
            return f"The mean ranks of the {len(self.methods)} methods do not differ significantly {where} ({test})."
        apart = [name for name in self.methods if not any({best, name} <= set(group) for group in self.groups)]
        worse = [name for name in apart if name != best]
        names = f"{best} ranks significantly before {', '.join(worse)}" if worse else "no method differs from the first"
        return f"The mean ranks differ {where} ({test}); by Nemenyi's test, {names}."

    @property
    def note(self) -> str:
        """How many data sets the tests need; empty with enough."""
        few = len(self.datasets) < ENOUGH
        return f"With fewer than {ENOUGH} data sets, these tests find large differences only." if few else ""


def compare_datasets(
    runs: str | Sequence[str],
    metric: str = "dice",
    common: bool = False,
    level: float = 0.95,
    split: str | None = None,
) -> Across:
    """Read finished runs of several data sets, and compare the methods over the data sets.

    Args:
        runs: As for `segment.evaluation.comparison.methods.read_methods`, like `metric`, `common` and `split`.
        metric: Metric column of ``scans.csv``.
        common: On each data set, compare the scans that all of its runs have.
        level: One minus the significance level, in [0.5, 1).
        split: None, or a split such as ``test``.

    Raises:
        UserError: The runs belong to one data set, the data sets have different methods, or a method has no score.
    """
    by_name: dict[str, list[str]] = {}
    for path in find_runs(runs):
        by_name.setdefault(_dataset(path), []).append(str(path))
    if len(by_name) < 2:
        raise UserError(
            f"by=dataset: all runs belong to the data set {next(iter(by_name))}. Give runs of several data sets, or "
            "by=configuration."
        )
    compared = {
        name: read_methods(paths, metric, "configuration", None, common, split) for name, paths in by_name.items()
    }
    names = [{method.name for method in one.methods} for one in compared.values()]
    first, *_ = by_name
    for dataset, own in zip(compared, names, strict=True):
        if own != names[0]:
            raise UserError(
                f"by=dataset: the methods of {first} are {', '.join(sorted(names[0]))}, those of {dataset} are "
                f"{', '.join(sorted(own))}. Give finished runs of the same methods on every data set; methods are "
                "named after the settings in which they differ there."
            )
    methods = sorted(names[0])
    scores = np.array([[_score(one, name) for one in compared.values()] for name in methods])
    if not np.isfinite(scores).all():
        method, dataset = np.argwhere(~np.isfinite(scores))[0]
        raise UserError(f"by=dataset: {methods[method]} has no foreground score on {list(compared)[dataset]}.")
    info = next(iter(compared.values())).metric
    return _ranked(methods, scores, info, level, compared)


def _ranked(
    methods: Sequence[str], scores: np.ndarray, metric: MetricInfo, level: float, compared: Mapping[str, Methods]
) -> Across:
    """The methods in the order of their mean ranks, tested."""
    ranks = dataset_ranks(scores, metric.higher_is_better)
    order = np.argsort(ranks.mean(axis=1), kind="stable")
    scores, ranks = scores[order], ranks[order]
    names = tuple(methods[index] for index in order)
    mean_ranks = ranks.mean(axis=1)
    critical = critical_difference(len(names), scores.shape[1], level) if len(names) > 2 else None
    groups = [] if critical is None else cliques(mean_ranks, critical)
    return Across(
        metric=metric,
        level=level,
        datasets=tuple(compared),
        methods=names,
        scores=scores,
        ranks=ranks,
        mean_ranks=mean_ranks,
        p=two_methods(scores[0], scores[1]) if critical is None else friedman(ranks),
        critical=critical,
        groups=tuple(names[low : high + 1] for low, high in groups),
        compared=compared,
    )


def _dataset(path: Path) -> str:
    """The name of the data set of a run, else of its folder."""
    folder = path if path.is_dir() else path.parent
    config = read_mapping(folder / "config.yaml") if (folder / "config.yaml").exists() else {}
    data = config.get("data")
    found = (data.get("name") or Path(str(data.get("root") or "")).name) if isinstance(data, Mapping) else ""
    if not found:
        raise UserError(f"by=dataset: {printable(path)} does not say which data set it belongs to: no data.name.")
    return printable(found)


def _score(methods: Methods, name: str) -> float:
    """The foreground mean of a method, as in a comparison on its data set."""
    place = [method.name for method in methods.methods].index(name)
    return float(trainings_of(methods).means()[0, place])


def text_report(across: Across) -> str:
    """The report that a command prints: scores, mean ranks and the conclusion."""
    heads = ["method", "mean rank", *across.datasets]
    rows = [
        [name, f"{rank:.2f}", *(f"{score:.4f} ({place:g})" for score, place in zip(scores, ranks, strict=True))]
        for name, rank, scores, ranks in zip(
            across.methods, across.mean_ranks, across.scores, across.ranks, strict=True
        )
    ]
    lines = [table(heads, rows, left=["method"]), f"Foreground {across.metric.heading} (rank on the data set).", ""]
    if across.critical is not None:
        lines.append(f"Critical difference of mean ranks (Nemenyi, {percent(across.level)}): {across.critical:.2f}.")
        lines += [f"Not significantly different: {', '.join(group)}." for group in across.groups]
    return "\n".join([*lines, *filter(None, [across.note]), across.conclusion]) + "\n"


def as_csv(across: Across) -> str:
    """One row per method and data set: score and rank."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "dataset", across.metric.name, "rank"])
    for method, scores, ranks in zip(across.methods, across.scores, across.ranks, strict=True):
        rows = zip(across.datasets, scores, ranks, strict=True)
        writer.writerows([method, dataset, float(score), float(rank)] for dataset, score, rank in rows)
    return buffer.getvalue()


def as_json(across: Across) -> dict[str, Any]:
    """All contents as plain values."""
    return {
        "metric": across.metric.name,
        **record([across.metric])[across.metric.name],
        "level": across.level,
        "datasets": list(across.datasets),
        "methods": [
            {"name": name, "mean_rank": rank, "scores": scores, "ranks": ranks}
            for name, rank, scores, ranks in zip(
                across.methods,
                across.mean_ranks.tolist(),
                across.scores.tolist(),
                across.ranks.tolist(),
                strict=True,
            )
        ],
        "test": "wilcoxon" if across.critical is None else "friedman",
        "p": across.p,
        "critical_difference": across.critical,
        "groups": [list(group) for group in across.groups],
        "conclusion": across.conclusion,
    }
