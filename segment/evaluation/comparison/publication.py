"""The table of methods for a paper, in Markdown and in LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pandas as pd

from segment.evaluation.comparison.result import Comparison
from segment.evaluation.comparison.tables import MOST_KEYS, differences_table, more_keys, significantly_worse
from segment.evaluation.comparison.wording import percent, scans_text
from segment.runs.health import listed
from segment.text import markdown, markdown_table

_DAGGER = "\N{DAGGER}"
_DECIMALS = 4  # where there is no interval


def markdown_report(comparison: Comparison) -> str:
    """The table of methods in Markdown, with protocol, notes and conclusion.

    Returns:
        One row per method, best first, and one column per structure: mean and interval; the best of each column in
        bold, a dagger where a method is significantly worse than the leader. A second table lists the differences.
    """
    decimals = dict.fromkeys(comparison.structures, _DECIMALS)
    heads, rows = _table_of_methods(comparison, lambda cell: f"**{cell}**", f" {_DAGGER}", markdown, decimals)
    leader = comparison.ranking.names[0]
    caption = (
        f"{comparison.metric.heading}, mean over scans with {percent(comparison.level)} bootstrap interval (BCa); "
        f"foreground is the mean over labels. Bold: best mean. {_DAGGER}: significantly worse than {leader} "
        f"(Holm-corrected p of the difference below {1 - comparison.level:.3g}, and its interval, which is not "
        "corrected, without 0)."
    )
    notes = [*(f"{markdown(note)}  " for note in (caption, comparison.protocol, *comparison.notes)), ""]
    lines = [markdown_table(heads, rows, left=1), *notes, markdown(comparison.conclusion), ""]
    return "\n".join([*lines, *_differences(comparison)])


def _differences(comparison: Comparison) -> list[str]:
    heads, rows = differences_table(comparison)
    if not rows:
        return []
    more = more_keys(comparison, MOST_KEYS)
    cells = [[markdown(cell) for cell in row] for row in (heads, *rows)]
    table = markdown_table(cells[0], cells[1:], left=len(heads))
    return [table, *([markdown(more), ""] if more else [])]


def latex_table(comparison: Comparison) -> str:
    """The table of methods in LaTeX, for the package booktabs, with a caption that stands on its own.

    Returns:
        One row per method, best first, and one column per structure: mean and interval, with as many decimals as all
        intervals of the column support (see `decimals_of`).
    """
    decimals = {
        structure: decimals_of([scores[structure].interval for scores in comparison.estimates.values()])
        for structure in comparison.structures
    }
    heads, rows = _table_of_methods(comparison, lambda cell: rf"\textbf{{{cell}}}", r"$^\dagger$", latex, decimals)
    table = pd.DataFrame(rows, columns=range(len(heads)))
    table.columns = pd.Index(heads)
    made: str = table.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="l" + "r" * (len(heads) - 1),
        caption=_latex_caption(comparison),
        position="htbp",
        label="tab:comparison",
    )
    return made


def decimals_of(intervals: list[tuple[float, float] | None]) -> int:
    """Decimals that intervals support: those of the first two significant digits of the widest one's half width."""
    widths = [(high - low) / 2 for low, high in filter(None, intervals) if high > low]
    return min(_DECIMALS, max(0, 1 - math.floor(math.log10(max(widths))))) if widths else _DECIMALS


def _latex_caption(comparison: Comparison) -> str:
    level = latex(percent(comparison.level)).replace(" ", r"\,")
    labels = " and of each label" if len(comparison.structures) > 2 else ""
    left_out = f" Left out: {latex(listed(comparison.failed))}." if comparison.failed else ""
    return (
        f"{latex(comparison.metric.heading)} of the foreground{labels} for {len(comparison.methods)} methods on "
        f"{latex(scans_text(comparison))}: mean over scans with {level} bootstrap interval (BCa). The foreground is "
        rf"the mean over labels. Best mean in bold; $^\dagger$: significantly worse than "
        f"{latex(comparison.ranking.names[0])} (Holm-corrected "
        f"$p < {1 - comparison.level:.3g}$, and the interval of the difference excludes 0).{left_out}"
    )


def _table_of_methods(
    comparison: Comparison,
    bold: Callable[[str], str],
    dagger: str,
    escape: Callable[[str], str],
    decimals: dict[str, int],
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table of methods; `escape` escapes text for the markup language of the table."""
    leader, *_ = comparison.ranking.names
    pick = max if comparison.metric.higher_is_better else min

    def number(value: float | None, structure: str) -> str:
        return "-" if value is None else f"{value:.{decimals[structure]}f}"

    best = {}
    for structure in comparison.structures:
        means = [scores[structure].mean for scores in comparison.estimates.values()]
        best[structure] = number(pick((mean for mean in means if mean is not None), default=None), structure)
    rows = []
    for name in comparison.ranking.names:
        cells = [escape(name)]
        for structure in comparison.structures:
            score = comparison.estimates[name][structure]
            ends = (
                score.interval and f" ({number(score.interval[0], structure)}, {number(score.interval[1], structure)})"
            )
            mean = number(score.mean, structure)
            worse = name != leader and significantly_worse(comparison, comparison.pair(leader, name, structure))
            shown = bold(mean) if mean == best[structure] != "-" else mean
            cells.append(shown + (ends or "") + (dagger if worse else ""))
        rows.append(cells)
    return ["Method", *(escape(structure) for structure in comparison.structures)], rows


def latex(text: str) -> str:
    """Text escaped for LaTeX."""
    named = {"\\": "textbackslash", "~": "textasciitilde", "^": "textasciicircum"}
    named |= {"|": "textbar", "<": "textless", ">": "textgreater", "·": "textperiodcentered"}
    return re.sub(
        r"[\\~^|<>·&%$#_{}]",
        lambda found: rf"\{named[found[0]]}{{}}" if found[0] in named else rf"\{found[0]}",
        text,
    )
