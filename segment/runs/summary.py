"""The summary of a run, ``summary.json``, and the table that a command prints at the end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, Field

from segment.files import plain, read_mapping, write_text
from segment.metrics.metric import DIAGONAL, MEASURED, MetricInfo
from segment.metrics.standard import LEAD
from segment.runs.cost import cost_lines
from segment.runs.detection import DetectionRecord
from segment.runs.figures import EMPTIES, figures_of
from segment.runs.metrics import KEY, MetricRecord, metric_info, metric_infos, record
from segment.runs.scans import OVERLAPS, TEST, mean_over_folds, metric_columns, parted, scan_rows
from segment.runs.volumes import volume_agreement
from segment.statistics.bootstrap import FEWEST_SCANS
from segment.text import printable, table
from segment.validation import Number, read_as

POSTPROCESSING = "postprocessing"
"""Key of what was decided about post-processing, as `segment.evaluation.postprocessing.Decision.as_dict` says; also of
its words in the protocol."""

_LONGEST_NAME = 32

Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]


@dataclass(frozen=True)
class Statistics:
    """One metric of one structure; None where undefined."""

    mean: Number | None
    sd: Number | None
    median: Number | None
    ci95: tuple[Number | None, Number | None] | None
    n: Count | None
    iqr: tuple[Number | None, Number | None] | None = None  # summaries of before 2026-12 lack it


def _has_overlaps(scores: dict[str, Statistics]) -> dict[str, Statistics]:
    if missing := set(OVERLAPS) - scores.keys():
        raise ValueError(f"lacks the scores {', '.join(sorted(missing))}")
    return scores


Scores = Annotated[dict[str, Statistics], AfterValidator(_has_overlaps)]


@dataclass(frozen=True)
class Figures:
    """Scores over the scans of one split."""

    foreground: Scores
    labels: dict[str, Scores]
    scans: Count
    empty: dict[str, dict[str, Count]]
    protocol: dict[str, Any]


@dataclass(frozen=True)
class Summary(Figures):
    """The content of ``summary.json``, as `summarise` describes it; older ones lack the last keys."""

    metrics: dict[str, MetricRecord] = field(default_factory=dict)
    cost: Any = None
    postprocessing: Any = None
    detection: DetectionRecord | None = None
    test: Figures | None = None


def summarise(
    scans: pd.DataFrame,
    protocol: Mapping[str, Any],
    cost: Mapping[str, Any] | None = None,
    metrics: Iterable[MetricInfo] = (),
) -> dict[str, Any]:
    """Summarise the scores of a run.

    Args:
        scans: Table of scans, as `segment.runs.scans.read_scans` returns it.
        protocol: How the numbers were computed: ``split``, ``fold``, ``overlap``, ``test_time_augmentation``, ...
        cost: Cost of training, summed over all sessions of a resumed run; unknown entries are left out:

            - ``wall_seconds``: from the start of training to its end, validation and checkpoints included.
            - ``train_seconds``, ``seconds_per_step``, ``samples_per_second`` (of all processes), ``waiting_share``
              (waiting for data, 0 to 1): of the training steps only; a step is one batch.
            - ``peak_memory_mb``: peak resident memory of the (first) process, preparation included, and its data loader
              workers; ``peak_gpu_memory_mb``: peak memory of tensors on its accelerator. MB are 10^6 bytes.
            - ``parameters``: trainable parameters. ``flops_per_step``: floating-point operations of the forward and
              backward passes of one step in all processes, counted by
              `segment.networks.describe.training_operations`.
            - ``energy_kwh`` of the whole machine, ``energy_source`` (``measured`` or ``estimated``), ``co2_kg``:
              see `segment.training.callbacks.energy.Energy`.
        metrics: Descriptions of the score columns; others are derived from the column name.

    Returns:
        The content of ``summary.json``, with None for every undefined number:

        - ``foreground``: metric -> ``{mean, sd, median, iqr: [low, high], ci95: [low, high], n}``. ``mean`` is the mean
          over labels of the mean over scans, ``ci95`` its interval, None if a label that some scans lack is in fewer
          than five; ``sd``, ``median`` and the quartiles ``iqr`` are those of the means over labels of each scan; ``n``
          counts the scans with any score.
        - ``labels``: name -> metric -> the same over the scans that have a score; ``sd`` divides by n - 1.
        - ``scans``: number of scans.
        - ``empty``: ``both_empty``, ``missed``, ``invented`` -> name -> number of scans.
        - ``metrics``: metric -> ``{title, unit, higher_is_better, perfect, penalty}``, see
          `segment.metrics.metric.MetricInfo`, so that reading the numbers does not need the code of the metric.
        - ``volumes``: agreement of the volumes, see `segment.runs.volumes.volume_agreement`.
        - ``protocol``, ``cost``: as passed.
        - ``test``: only if test scans were scored besides others, which alone count in the figures above: the same
          ``foreground``, ``labels``, ``scans``, ``empty`` and ``protocol`` of the test scans. Of several folds, whose
          models all predict the same test scans, it has each scan's mean score over the folds.
    """
    columns = metric_columns(scans)
    infos = {column: metric_info({}, column) for column in columns} | {info.name: info for info in metrics}
    own, tests = parted(scans)
    summary = {
        **figures_of(own, columns),
        KEY: record(infos[column] for column in columns),
        "volumes": volume_agreement(own),
        "protocol": dict(protocol),
        "cost": dict(cost or {}),
    }
    if len(tests):
        averaged = mean_over_folds(tests, {column: infos[column].perfect for column in columns})
        folds = tests["fold"].nunique()
        models = {} if folds < 2 else {"scores": f"mean over the models of {folds} folds"}
        summary[TEST] = figures_of(averaged, columns) | {"protocol": {**protocol, "split": TEST, **models}}
    return plain(summary)


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a summary as JSON atomically; NaN becomes null.

    Args:
        path: The JSON file.
        summary: The result of `summarise`.
    """
    write_text(path, json.dumps(plain(summary), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_summary(path: Path) -> dict[str, Any]:
    """Read a summary.

    Args:
        path: A ``summary.json``.

    Returns:
        The content, as `summarise` describes it.

    Raises:
        UserError: The file is missing, damaged or not a summary.
    """
    summary = read_mapping(path)
    read_as(Summary, summary, path, unknown_keys=True, fix="Run the command that wrote it again.")
    return summary


def scan_scores(scans: pd.DataFrame, metric: MetricInfo = LEAD) -> pd.Series:
    """Mean over labels of one metric for every scan.

    Args:
        scans: Table of scans.
        metric: A metric whose column is in the table.

    Returns:
        float64, indexed by case, worst first, ties ordered by case; scans without any score are left out.
    """
    means = scan_rows(scans, metric.name).mean(axis=1).dropna()
    means.index = means.index.get_level_values("case")
    return _worst_first(means, metric)


def _worst_first(scores: pd.Series, metric: MetricInfo) -> pd.Series:
    return scores.sort_index().sort_values(ascending=metric.higher_is_better, kind="stable")


def text_table(summary: Mapping[str, Any], scans: pd.DataFrame) -> str:
    """The table that a command prints at the end.

    Args:
        summary: The result of `summarise`.
        scans: The table of scans that it came from.

    Returns:
        Lines of text without colour codes that fit the terminal: for each metric one row per label and one for the
        foreground (mean, standard deviation, 95 % interval, number of scans, worst scan with its score), then protocol,
        empty structures and cost; then the same of the test scans, if any.
    """
    own, tests = parted(scans)
    infos = [info for info in metric_infos(summary) if info.name in scans]
    lines = [*_split_lines(summary, own, infos), *cost_lines(summary)]
    if test := test_summary(summary):
        averaged = mean_over_folds(tests, {info.name: info.perfect for info in infos})
        lines += ["", "Test scans", "", *_split_lines(test, averaged, infos)]
    return "\n".join(lines) + "\n"


def test_summary(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of the test scans, with the descriptions of the metrics; None if none were scored beside others."""
    return summary[TEST] | {KEY: summary.get(KEY, {})} if TEST in summary else None


def _split_lines(summary: Mapping[str, Any], scans: pd.DataFrame, infos: Sequence[MetricInfo]) -> list[str]:
    """Lines of the table and the protocol over the scans of one split."""
    rows = []
    for info in infos:
        wide = scan_rows(scans, info.name)
        groups = [(name, scores, wide[name].dropna().droplevel(["split", "fold"])) for name, scores in
                  summary["labels"].items()]  # fmt: skip
        groups.append(("foreground", summary["foreground"], scan_scores(scans, info)))
        for place, (name, scores, values) in enumerate(groups):
            own = scores[info.name]
            cells = [*_numbers(own), str(own["n"]), *_worst(_worst_first(values, info))]
            rows.append([info.heading if place == 0 else "", name, *cells])
    heads = ["metric", "label", "mean", "sd", "95 % interval", "n", "worst scan", "score"]
    lines = [table(heads, rows, left=["metric", "label", "worst scan"], keys=2), ""]
    return [
        *lines,
        *_median_lines(summary, infos),
        *_scarce_line(summary),
        protocol_line(summary),
        empties_line(summary),
    ]


def _median_lines(summary: Mapping[str, Any], infos: Sequence[MetricInfo]) -> list[str]:
    """Median and quartiles of every distance, whose mean a few scans without the structure decide."""
    lines = []
    for info in infos:
        scores = summary["foreground"][info.name]
        if info.penalty == DIAGONAL and scores.get("iqr"):
            low, high = map(_decimal, scores["iqr"])
            lines.append(
                f"{info.heading} of the foreground: median {_decimal(scores['median'])}, quartiles {low} - {high}"
            )
    return lines


def _scarce_line(summary: Mapping[str, Any]) -> list[str]:
    """Why the foreground has no interval, if a label occurs in too few scans for one."""
    counts = {name: scores[LEAD.name]["n"] for name, scores in summary["labels"].items()}
    few = [
        f"{name} occurs in {count} scan{'' if count == 1 else 's'}"
        for name, count in counts.items()
        if 0 < count < min(FEWEST_SCANS, summary["foreground"][LEAD.name]["n"])
    ]
    return [printable(f"no interval of the foreground: {', '.join(few)}, fewer than {FEWEST_SCANS}")] if few else []


def protocol_line(summary: Mapping[str, Any]) -> str:
    """One line that says how the numbers were computed.

    Args:
        summary: The result of `summarise`.

    Returns:
        Number of scans, split and fold, overlap of the windows, test-time augmentation, other protocol entries.
    """
    protocol = dict(summary["protocol"])
    split, fold = protocol.pop("split", None), protocol.pop("fold", None)
    overlap, augmentation = protocol.pop("overlap", None), protocol.pop("test_time_augmentation", None)
    count = summary["scans"]
    parts = [
        f"{count} scan" if count == 1 else f"{count} scans",
        f"split {_words(split)}" + ("" if fold is None else f", fold {_words(fold)}"),
        f"window overlap {_words(overlap)}",
        f"test-time augmentation {_words(augmentation)}",
        *(f"{key.replace('_', ' ')} {_words(value)}" for key, value in protocol.items() if value is not None),
    ]
    return printable(" · ".join(parts))


def merged_protocol(summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the protocols of several summaries.

    Args:
        summaries: Each as `summarise` returns it; those of scores from other programs may lack a protocol.

    Returns:
        Key to value; if the values differ, a list of them as text.
    """
    protocols = [summary.get("protocol", {}) for summary in summaries]
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for protocol in protocols for key in protocol):
        values = list({str(protocol.get(key)): protocol.get(key) for protocol in protocols}.values())
        merged[key] = values[0] if len(values) == 1 else [str(value) for value in values]
    return merged


def empties_line(summary: Mapping[str, Any]) -> str:
    """One line that says how many structures were empty and how they were scored.

    Args:
        summary: The result of `summarise`.

    Returns:
        The counts over all labels and scans.
    """
    counts = {status: sum(summary["empty"].get(status, {}).values()) for status in EMPTIES}
    return (
        f"empty structures: {counts['both_empty']} in both masks (left out of means), "
        f"{counts['missed']} missed and {counts['invented']} invented (scored {_penalties(metric_infos(summary))})"
    )


def _penalties(infos: Sequence[MetricInfo]) -> str:
    """Scores of a structure that only one mask contains: 0 for most metrics, others listed by name."""
    words = {DIAGONAL: "the diagonal of the scan", MEASURED: "as measured"}
    others = [
        f"{info.heading} {words[info.penalty] if isinstance(info.penalty, str) else f'{info.penalty:g}'}"
        for info in infos
        if info.penalty != LEAD.penalty
    ]
    return ", ".join([f"{LEAD.penalty:g}", *others])


def _numbers(scores: Mapping[str, Any]) -> tuple[str, str, str]:
    """Mean, sd and interval as text."""
    interval = scores["ci95"]
    ends = "-" if interval is None else f"{_decimal(interval[0])} - {_decimal(interval[1])}"
    return _decimal(scores["mean"]), _decimal(scores["sd"]), ends


def _decimal(value: float | None) -> str:
    """Four decimals, or a dash for an undefined number."""
    return "-" if value is None else f"{value:.4f}"


def _worst(ordered: pd.Series) -> tuple[str, str]:
    """Scan and value of the first of ordered scores."""
    return ("-", "-") if ordered.empty else (_short(str(ordered.index[0])), _decimal(float(ordered.iloc[0])))


def _short(name: str) -> str:
    """A printable name, shortened in the middle if it is long."""
    name = printable(name)
    half = (_LONGEST_NAME - 1) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def _words(value: Any) -> str:
    """A protocol value in words."""
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(item) for item in value) if value else "off"
    return str(value)
