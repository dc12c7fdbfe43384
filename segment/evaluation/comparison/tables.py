"""A comparison as text, CSV, Markdown, LaTeX and JSON."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from segment.evaluation.comparison.frames import pairs_frame
from segment.evaluation.comparison.result import FOREGROUND, Comparison, Pair
from segment.evaluation.comparison.wording import interval_text, p_text, percent
from segment.files import plain
from segment.runs.metrics import record
from segment.text import printable

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
_MOST_ROWS = 40
_MOST_KEYS = 12
_LONGEST_VALUE = 32
_LONGEST_PAIR = 44
_LABEL_COLUMNS_WIDTH = 60  # characters available for the label columns
_DAGGER = "\N{DAGGER}"


def text_report(comparison: Comparison) -> str:
    """The report that a command prints.

    Args:
        comparison: The comparison.

    Returns:
        Lines of text without colour codes: methods, pairs (only those with the best method if there are many),
        variance, differences, cost, protocol, notes and finally the conclusion.
    """
    parts = [
        _methods_text(comparison),
        _pairs_text(comparison),
        _variance_text(comparison),
        _differences_text(comparison),
        _cost_text(comparison),
        "\n".join([comparison.protocol, *comparison.notes]),
        comparison.conclusion,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def pairs_csv(comparison: Comparison) -> str:
    """All pairs as comma-separated values; see `pairs_frame`."""
    return pairs_frame(comparison).to_csv(index=False, lineterminator="\n")


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
    made: dict[str, Any] = plain(_plain_fields(fields | own | {"methods": methods}))
    return made


def _plain_fields(value: Any) -> Any:
    """Dataclasses at any depth as mappings."""
    if dataclasses.is_dataclass(value):
        return _plain_fields(vars(value))
    if isinstance(value, dict):
        return {key: _plain_fields(item) for key, item in value.items()}
    return [_plain_fields(item) for item in value] if isinstance(value, list | tuple) else value


def markdown_report(comparison: Comparison) -> str:
    """The table of methods in Markdown, with protocol, notes and conclusion.

    Returns:
        One row per method, best first, and one column per structure: mean and interval; the best of each column in
        bold, a dagger where a method is significantly worse than the leader. A second table lists the differences.
    """
    heads, rows = _publication_table(comparison, lambda cell: f"**{cell}**", f" {_DAGGER}", _markdown)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, [":--", *["--:"] * (len(heads) - 1)], *rows)]
    notes = [_caption(comparison, _DAGGER), comparison.protocol, *comparison.notes]
    below = [*(f"{_markdown(note)}  " for note in notes), "", _markdown(comparison.conclusion), ""]
    return "\n".join([*lines, "", *below, *_differences_markdown(comparison)])


def latex_table(comparison: Comparison) -> str:
    """The table of methods in LaTeX, for the package booktabs; otherwise as `markdown_report`."""
    heads, rows = _publication_table(comparison, lambda cell: rf"\textbf{{{cell}}}", r"$^\dagger$", _latex)
    table = pd.DataFrame(rows, columns=range(len(heads)))
    table.columns = pd.Index(heads)
    caption = " ".join(
        [_latex(_caption(comparison, "DAGGER")).replace("DAGGER", r"$^\dagger$"), _latex(comparison.conclusion)]
    )
    styled = table.style.hide(axis="index")
    made: str = styled.to_latex(
        hrules=True,
        column_format="l" + "r" * (len(heads) - 1),
        caption=caption,
        position="htbp",
        label="tab:comparison",
    )
    return made


def _publication_table(
    comparison: Comparison, bold: Callable[[str], str], dagger: str, escape: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of methods; `escape` escapes text for the markup language of the table."""
    leader, *_ = comparison.ranking.names
    best = {structure: _best(comparison, structure) for structure in comparison.structures}
    rows = []
    for name in comparison.ranking.names:
        cells = [escape(name)]
        for structure in comparison.structures:
            score = comparison.estimates[name][structure]
            ends = "" if score.interval is None else f" ({score.interval[0]:.4f}, {score.interval[1]:.4f})"
            mean = _decimal(score.mean)
            worse = name != leader and significantly_worse(comparison, comparison.pair(leader, name, structure))
            cells.append((bold(mean) if mean == best[structure] != "-" else mean) + ends + (dagger if worse else ""))
        rows.append(cells)
    return ["Method", *(escape(structure) for structure in comparison.structures)], rows


def _best(comparison: Comparison, structure: str) -> str:
    """The best mean of a structure, formatted."""
    means = [scores[structure].mean for scores in comparison.estimates.values()]
    defined = [mean for mean in means if mean is not None]
    pick = max if comparison.metric.higher_is_better else min
    return _decimal(pick(defined)) if defined else "-"


def significantly_worse(comparison: Comparison, pair: Pair) -> bool:
    """Whether the second of a pair is significantly worse than the first."""
    difference = pair.difference or 0.0
    return (
        pair.significant
        and not pair.equivalent
        and (difference > 0 if comparison.metric.higher_is_better else difference < 0)
    )


def _caption(comparison: Comparison, dagger: str) -> str:
    level = percent(comparison.level)
    return (
        f"{comparison.metric.heading}, mean over scans with {level} bootstrap interval (BCa); foreground is "
        f"the mean over labels. Bold: best mean. {dagger}: significantly worse than {comparison.ranking.names[0]} "
        f"(Holm-corrected p of the difference below {1 - comparison.level:.3g}, and its interval, which is not "
        "corrected, without 0)."
    )


def _markdown(text: str) -> str:
    """Text escaped for Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", text)


def _latex(text: str) -> str:
    """Text escaped for LaTeX."""
    named = {"\\": "textbackslash", "~": "textasciitilde", "^": "textasciicircum"}
    named |= {"|": "textbar", "<": "textless", ">": "textgreater", "·": "textperiodcentered"}
    return re.sub(
        r"[\\~^|<>·&%$#_{}]",
        lambda found: rf"\{named[found[0]]}{{}}" if found[0] in named else rf"\{found[0]}",
        text,
    )


def _methods_text(comparison: Comparison) -> str:
    ranking, level = comparison.ranking, percent(comparison.level)
    several = len(comparison.methods) > 2
    by_scan, wins = (dict(zip(ranking.names, values, strict=True)) for values in (ranking.scan_ranks, ranking.wins))
    labels = comparison.structures[1:]
    fits = sum(max(6, len(label)) + 2 for label in labels) <= _LABEL_COLUMNS_WIDTH
    heads = [
        "rank",
        *([f"{level} of rank", "mean rank", "better than"] if several else []),
        "method",
        f"foreground {comparison.metric.heading}",
    ]
    rows = []
    for name, rank, ends in zip(ranking.names, ranking.ranks, ranking.intervals, strict=True):
        scores = comparison.estimates[name]
        total = scores[FOREGROUND]
        own = [f"{ends[0]:.0f} to {ends[1]:.0f}", f"{by_scan[name]:.2f}", str(wins[name])] if several else []
        means = [_decimal(scores[label].mean) for label in labels] if fits else []
        rows.append([str(rank), *own, name, _decimal(total.mean), interval_text(total.interval), *means])
    lines = [_table([*heads, f"{level} interval", *(labels if fits else ())], rows, left=["method"])]
    if several and ranking.tau is not None:
        lines.append(
            "Rank: by the mean; mean rank: over single scans; better than: number of methods, significantly.\n"
            f"Mean Kendall's tau between the rankings on resampled scans and this one: {ranking.tau:.2f}."
        )
    if not fits:
        best = comparison.estimates[ranking.names[0]]
        label_means = ", ".join(f"{label} {_decimal(best[label].mean)}" for label in labels)
        lines.append(f"Labels of {ranking.names[0]}: {label_means}.")
    return "\n".join(lines)


def _pairs_text(comparison: Comparison) -> str:
    leader, *behind = comparison.ranking.names
    few = len(comparison.methods) <= _FEW_METHODS
    pairs = list(itertools.combinations(comparison.ranking.names, 2)) if few else [(leader, name) for name in behind]
    every = len(pairs) * len(comparison.structures) <= _MOST_ROWS
    heads = ["pair", "structure", "difference", f"{percent(comparison.level)} interval", "p (Holm)", "Wilcoxon"]
    rows = []
    ranks = {name: place for place, name in enumerate(comparison.ranking.names, 1)}
    numbered = any(len(f"{first} - {second}") > _LONGEST_PAIR for first, second in pairs)
    for first, second in pairs:
        short = f"row {ranks[first]} - row {ranks[second]}" if numbered else f"{first} - {second}"
        for structure in comparison.structures if every else (FOREGROUND,):
            against = short if structure == FOREGROUND else ""
            difference, interval, _, *others = pair_cells(comparison.pair(first, second, structure))
            rows.append([against, structure, difference, interval, *others])
    heads += ["effect", "won/tied/lost", "significant"]
    lines = [_table(heads, rows, left=["pair", "structure"])]
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
    return _table(heads, rows, left=["method"]) if rows else ""


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


def _differences_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Differences between the methods: one column per method; with many methods, each value with its methods."""
    names = [method.name for method in comparison.methods]
    few, rows = len(names) <= _FEW_METHODS, []
    for key, values in list(comparison.choices.items())[:_MOST_KEYS]:
        by_value: dict[str, list[str]] = {}
        for name in names:
            by_value.setdefault(_value(values[name]), []).append(name)
        cells = [_value(values[name]) for name in names]
        rows.append([key, *(cells if few else ["; ".join(f"{own} ({', '.join(of)})" for own, of in by_value.items())])])
    return ["choice or key", *(names if few else ["value (methods)"])], rows


def _differences_text(comparison: Comparison) -> str:
    heads, rows = _differences_table(comparison)
    if len(heads) == 2:
        table = "\n".join(["Differences:", *(f"  {key}: {value}" for key, value in rows)])
    else:
        table = _table(heads, rows, left=heads)
    more = more_keys(comparison, _MOST_KEYS).replace("comparison.json", "comparison.json (output=FOLDER)")
    return "\n".join(filter(None, [table, more])) if rows else ""


def _differences_markdown(comparison: Comparison) -> list[str]:
    heads, rows = _differences_table(comparison)
    lines = [f"| {' | '.join(map(_markdown, cells))} |" for cells in (heads, *rows)]
    more = more_keys(comparison, _MOST_KEYS)
    below = [_markdown(more), ""] if more else []
    return [lines[0], f"|{' :-- |' * len(heads)}", *lines[1:], "", *below] if rows else []


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
    return _table(heads, rows, left=["cost per run"]) if rows else ""


def _decimal(value: float | None) -> str:
    """Four decimals, or a dash for an undefined number."""
    return "-" if value is None else f"{value:.4f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> str:
    """A text table; the columns named in `left` are left-aligned, the others right-aligned."""
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for head in heads:
        table.add_column(Text(printable(head)), justify="left" if head in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(file=io.StringIO(), width=10_000, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
