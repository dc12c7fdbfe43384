"""A comparison as text for a terminal, as CSV and as JSON."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from segment.evaluation.comparison.frames import pairs_frame
from segment.evaluation.comparison.result import FOREGROUND, Comparison, Pair
from segment.evaluation.comparison.wording import interval_text, p_text, percent
from segment.files import plain
from segment.metrics.metric import DIAGONAL
from segment.runs.cells import csv_text
from segment.runs.metrics import record
from segment.text import table

COSTS = {
    "wall_seconds": ("wall s", "{:.0f}"),
    "seconds_per_step": ("s per step", "{:.3g}"),
    "waiting_share": ("waiting", "{:.1%}"),
    "samples_per_second": ("samples/s", "{:.3g}"),
    "peak_memory_mb": ("peak MB", "{:.0f}"),
    "peak_gpu_memory_mb": ("GPU MB", "{:.0f}"),
    "parameters": ("parameters", "{:.0f}"),
    "flops_per_step": ("FLOP per step", "{:.3g}"),
    "energy_kwh": ("kWh", "{:.3g}"),
    "co2_kg": ("kg CO2", "{:.3g}"),
}
"""Key of ``cost`` in summary.json -> heading and format of its column, in this order."""

_FEW_METHODS = 4
_FEW_LABELS = 8
_MOST_RANKED = 10
_MOST_ROWS = 40
MOST_KEYS = 12
_LONGEST_VALUE = 32


def text_report(*comparisons: Comparison) -> str:
    """The report that a command prints.

    Args:
        *comparisons: Comparisons of the same methods, one by every metric.

    Returns:
        Lines of text without colour codes: methods and pairs (only those with the best method if there are many) by
        every metric, variance, differences, cost, protocol, notes and finally the conclusions.
    """
    first, notes = comparisons[0], dict.fromkeys(note for one in comparisons for note in one.notes)
    parts = [
        *(text for one in comparisons for text in (_methods_text(one), _pairs_text(one))),
        *map(_subgroups_text, comparisons),
        *map(_variance_text, comparisons),
        _differences_text(first),
        _cost_text(first),
        "\n".join([first.protocol, *notes]),
        *(one.conclusion for one in comparisons),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def pairs_csv(comparison: Comparison) -> str:
    """All pairs as comma-separated values; see `pairs_frame`."""
    return csv_text(pairs_frame(comparison))


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All contents of a comparison as plain values; methods list the paths of their runs instead of scores."""
    fields = {field.name: getattr(comparison, field.name) for field in dataclasses.fields(comparison)}
    methods = [
        {
            "name": method.name,
            "runs": [str(run.path) for run in method.runs],
            "seeds": method.seeds,
            "folds": method.folds,
            "cost": method.cost,
            "scans": len(method.scores),
        }
        for method in comparison.methods
    ]
    own = {"metric": comparison.metric.name, **record([comparison.metric])[comparison.metric.name]}
    own["family"] = [info.name for info in comparison.family]
    made: dict[str, Any] = plain(_plain_fields(fields | own | {"methods": methods}))
    return made


def _plain_fields(value: Any) -> Any:
    """Dataclasses at any depth as mappings."""
    if dataclasses.is_dataclass(value):
        return _plain_fields(vars(value))
    if isinstance(value, dict):
        return {key: _plain_fields(item) for key, item in value.items()}
    return [_plain_fields(item) for item in value] if isinstance(value, list | tuple) else value


def significantly_worse(comparison: Comparison, pair: Pair) -> bool:
    """Whether the second of a pair is significantly worse than the first."""
    difference = pair.difference or 0.0
    return (
        pair.significant
        and not pair.equivalent
        and (difference > 0 if comparison.metric.higher_is_better else difference < 0)
    )


def _methods_text(comparison: Comparison) -> str:
    ranking, level = comparison.ranking, percent(comparison.level)
    several = len(comparison.methods) > 2
    by_scan, wins = (dict(zip(ranking.names, values, strict=True)) for values in (ranking.scan_ranks, ranking.wins))
    labels = comparison.structures[1:]
    few = len(labels) <= _FEW_LABELS
    heads = ["rank", "method", f"foreground {comparison.metric.heading}", f"{level} interval"]
    heads += [f"{level} of rank"] if several else []
    rows = []
    for name, rank, ends in zip(ranking.names, ranking.ranks, ranking.intervals, strict=True):
        scores = comparison.estimates[name]
        total = scores[FOREGROUND]
        own = [f"{ends[0]:.0f} to {ends[1]:.0f}"] if several else []
        means = [_decimal(scores[label].mean) for label in labels if few]
        rows.append([str(rank), name, _decimal(total.mean), interval_text(total.interval), *own, *means])
    lines = [table([*heads, *(labels if few else ())], rows, left=["method"], keys=2)]
    lines += filter(None, [medians_text(comparison)])
    if several and ranking.tau is not None:
        first = ranking.names[:_MOST_RANKED]
        lines += [
            f"Mean rank over single scans: {', '.join(f'{name} {by_scan[name]:.2f}' for name in first)}.",
            f"Methods that each is significantly better than: {', '.join(f'{name} {wins[name]}' for name in first)}.",
        ]
        lines.append(f"Mean Kendall's tau between the rankings on resampled scans and this one: {ranking.tau:.2f}.")
    if not few:
        best = comparison.estimates[ranking.names[0]]
        label_means = ", ".join(f"{label} {_decimal(best[label].mean)}" for label in labels)
        lines.append(f"Labels of {ranking.names[0]}: {label_means}.")
    return "\n".join(lines)


def medians_text(comparison: Comparison) -> str:
    """The medians of a distance, whose mean a few scans without the structure decide; empty for other metrics."""
    if comparison.metric.penalty != DIAGONAL:
        return ""
    medians = [(name, comparison.estimates[name][FOREGROUND].median) for name in comparison.ranking.names]
    named = ", ".join(f"{name} {_decimal(median)}" for name, median in medians[:_MOST_RANKED])
    return f"Median over scans of the foreground {comparison.metric.heading}: {named}."


def _pairs_text(comparison: Comparison) -> str:
    leader, *behind = comparison.ranking.names
    few = len(comparison.methods) <= _FEW_METHODS
    pairs = list(itertools.combinations(comparison.ranking.names, 2)) if few else [(leader, name) for name in behind]
    every = len(pairs) * len(comparison.structures) <= _MOST_ROWS
    first_head = "structure" if every else f"foreground of {leader} minus that of"
    rows: list[list[str] | str] = []
    for first, second in pairs:
        rows += [f"{first} - {second}"] if every else []
        for structure in comparison.structures if every else (FOREGROUND,):
            *cells, claim = pair_cells(comparison.pair(first, second, structure))
            cells = [cell.replace("< ", "<") for cell in cells]
            del cells[2]  # p before the correction
            cells[2] += {"yes": "*", "equivalent": "="}.get(claim, " ")
            rows.append([f" {structure}" if every else second, *cells])
    heads = [first_head, "first - second", f"{percent(comparison.level)} interval", "Holm p", "Wilcoxon p", "effect"]
    lines = [table([*heads, "won/ tied/ lost"], rows, left=[first_head])]
    lines.append(f"*: significant (Holm p below {1 - comparison.level:.3g}, and the interval excludes 0)")
    if comparison.margin is not None:
        lines[-1] += f"; =: equivalent within {comparison.margin:g}"
    if not few or not every:
        rest = "all pairs" if every else "all pairs and labels"
        lines.append(f"Differences from {leader}; see comparison.csv (output=FOLDER) for {rest}.")
    return "\n".join(lines)


def pair_cells(pair: Pair) -> list[str]:
    """A pair as text: difference, interval, p, Holm-corrected p, Wilcoxon's p, effect, won/tied/lost, significance."""
    found = (pair.p, pair.p_holm, pair.p_wilcoxon)
    tests = ["-" if p is None else p_text(p).removeprefix("p ").removeprefix("= ") for p in found]
    return [
        "-" if pair.difference is None else f"{pair.difference:+.4f}",
        interval_text(pair.interval),
        *tests,
        "-" if pair.effect is None else f"{pair.effect:+.2f}",
        f"{pair.won}/{pair.tied}/{pair.lost}",
        "equivalent" if pair.equivalent else "yes" if pair.significant else "no",
    ]


def variance_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Variance components of each method as standard deviations.

    Args:
        comparison: The comparison.

    Returns:
        Column headings, and a row of text per method; no rows if no method has several folds or seeds.
    """
    rows = []
    for method in comparison.methods if comparison.variances else ():
        parts = comparison.variances.get(method.name)
        values = [] if parts is None else [parts.scan, parts.fold, parts.seed, parts.rest]
        cells = ["-" if value is None else f"{value**0.5:.4f}" for value in values] or ["-"] * 4
        rows.append([method.name, str(max(1, len(method.folds))), str(method.seeds), *cells])
    return ["method", "folds", "seeds", "sd of scans", "sd of folds", "sd of seeds", "residual"], rows


def _variance_text(comparison: Comparison) -> str:
    heads, rows = variance_table(comparison)
    return table(heads, rows, left=["method"]) if rows else ""


def more_keys(comparison: Comparison, shown: int) -> str:
    """The sentence below a table of the first `shown` choices; empty if no other key differs.

    Args:
        comparison: The comparison.
        shown: Number of the table's rows.

    Returns:
        A sentence that says where to find all keys.
    """
    if set(comparison.differences) <= set(list(comparison.choices)[:shown]):
        return ""
    return f"All {len(comparison.differences)} configuration keys that differ are in comparison.json."


def differences_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Differences between the methods: one column per method; with many methods, each value with its methods."""
    names = [method.name for method in comparison.methods]
    few, rows = len(names) <= _FEW_METHODS, []
    for key, values in list(comparison.choices.items())[:MOST_KEYS]:
        by_value: dict[str, list[str]] = {}
        for name in names:
            by_value.setdefault(_value(values[name]), []).append(name)
        cells = [_value(values[name]) for name in names]
        rows.append([key, *(cells if few else ["; ".join(f"{own} ({', '.join(of)})" for own, of in by_value.items())])])
    return ["choice or key", *(names if few else ["value (methods)"])], rows


def _differences_text(comparison: Comparison) -> str:
    heads, rows = differences_table(comparison)
    if len(heads) == 2:
        text = "\n".join(["Differences:", *(f"  {key}: {value}" for key, value in rows)])
    else:
        text = table(heads, rows, left=heads)
    more = more_keys(comparison, MOST_KEYS).replace("comparison.json", "comparison.json (output=FOLDER)")
    return "\n".join(filter(None, [text, more])) if rows else ""


def _value(value: str | None) -> str:
    text = "-" if value is None else value
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def cost_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The known cost per run of each method.

    Args:
        comparison: The comparison.

    Returns:
        Column headings, and a row of text per method, best first; no rows if nothing is known.
    """
    costs = {method.name: method.cost for method in comparison.methods}
    keys = [key for key in COSTS if any(key in cost for cost in costs.values())]
    energy = "energy_kwh" in keys
    efficiency = energy and comparison.metric.higher_is_better  # millimetres per kWh would reward a large error
    rows = []
    for name in comparison.ranking.names if keys else ():
        cost, mean = costs[name], comparison.estimates[name][FOREGROUND].mean
        cells = [COSTS[key][1].format(cost[key]) if key in cost else "-" for key in keys]
        if energy:
            cells.append(str(cost.get("energy_source", "-")))
        if efficiency:
            used = cost.get("energy_kwh")
            ratio = mean / used if mean is not None and isinstance(used, float) and used > 0 else None
            cells.append("-" if ratio is None else f"{ratio:.3g}")
        rows.append([name, *cells])
    heads = ["cost per run", *(COSTS[key][0] for key in keys)]
    heads += ["energy"] if energy else []
    return [*heads, *([f"{comparison.metric.heading} per kWh"] if efficiency else [])], rows


def _cost_text(comparison: Comparison) -> str:
    heads, rows = cost_table(comparison)
    return table(heads, rows, left=["cost per run"]) if rows else ""


def subgroup_tables(comparison: Comparison) -> list[tuple[list[str], list[list[str]]]]:
    """Headings and rows of the tables by subgroup.

    Returns:
        The means of every method (columns) on every subgroup; differences between the leader and the other methods by
        subgroup; and how much these differ between subgroups. Empty without subgroups.
    """
    found = comparison.subgroups
    if found is None:
        return []
    names, level = comparison.ranking.names[:_MOST_RANKED], percent(comparison.level)
    means = [
        [one.name, str(one.scans), *(_decimal(one.estimates[name].mean) for name in names)] for one in found.scores
    ]
    apart = [
        [one.name, f"{pair.first} - {pair.second}", *pair_cells(pair)[:2], *pair_cells(pair)[3:4]]
        for one in found.scores
        for pair in one.pairs
    ]
    interactions = [
        [f"{one.first} - {one.second}", f"{one.subgroups.first} - {one.subgroups.second}",
         f"{one.subgroups.difference:+.4f}", interval_text(one.subgroups.interval), f"{one.subgroups.p_holm:.4f}"]
        for one in found.interactions
    ]  # fmt: skip
    ends = [f"{level} interval", "Holm p"]
    return [
        ([found.column, "scans", *names], means),
        ([found.column, "methods", "first - second", *ends], apart),
        (["methods", found.column, "difference of the differences", *ends], interactions),
    ]


def _subgroups_text(comparison: Comparison) -> str:
    texts = [
        table(heads, rows, left=[comparison.subgroups.column if comparison.subgroups else "", "methods"], keys=2)
        for heads, rows in subgroup_tables(comparison)
        if rows
    ]
    heading = f"Foreground {comparison.metric.heading} by {comparison.subgroups.column}" if comparison.subgroups else ""
    return "\n\n".join([heading, *texts]) if texts else ""


def _decimal(value: float | None) -> str:
    """Four decimals, or a dash for an undefined number."""
    return "-" if value is None else f"{value:.4f}"
