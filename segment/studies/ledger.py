"""Sets the measured figures of a run beside the published ones, each with a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segment.studies.figures import ALL, Measured, Published
from segment.studies.verdict import (
    DATA_NEEDED,
    NO_RULES,
    NOT_COMPARABLE,
    NOT_RUN,
    Judgement,
    Rules,
    chosen,
    judge,
    seeds_together,
)


@dataclass(frozen=True)
class Line:
    """A published figure and its measured counterpart.

    Attributes:
        run: Run of the study.
        published: The published figure; None if nothing is published for this run.
        measured: The measured figure, seeds averaged; None if there is none.
        judgement: The verdict and what it rests on.
        reduced: How the run's protocol deviates from the study's; empty if it does not.
        differs: What differs between the run and the published recipe; empty if nothing does.
        seeds: Number of seeds that were averaged.
    """

    run: str
    published: Published | None
    measured: Measured | None
    judgement: Judgement
    reduced: str
    differs: str = ""
    seeds: int = 1

    @property
    def verdict(self) -> str:
        """One of `segment.studies.verdict.VERDICTS`; empty without a published figure or such a metric."""
        return self.judgement.verdict


def compare(
    run: str,
    published: Sequence[Published],
    measured: Sequence[Measured],
    data_here: bool = True,
    rules: Rules = NO_RULES,
    protocol: Mapping[str, Any] | None = None,
) -> list[Line]:
    """Compare the measured figures of one run with the published ones.

    Args:
        run: The run.
        published: All published figures of its study; those without a label are not scores and are skipped.
        measured: All measured figures of its study.
        data_here: Whether the data set is available, if there is no run.
        rules: The study's rules.
        protocol: How the measured figures were computed, from ``summary.json``; None if unknown.

    Returns:
        One line per published figure. If there is none, one line per metric and label over all folds, or a single empty
        line.
    """
    own = [row for row in measured if row.run == run]
    unrun = Judgement(NOT_RUN if data_here or own else DATA_NEEDED)
    figures = [row for row in published if row.run == run and row.label]
    lines = [_line(figure, own, figures, rules, protocol or {}, unrun) for figure in figures]
    if lines or not own:
        return lines or [Line(run, None, None, unrun, "")]
    found = []
    for metric, label in dict.fromkeys((row.metric, row.label) for row in own):
        rows = _whole(chosen(own, _sought(run, metric, label)), "")
        row = seeds_together(rows)
        found += [Line(run, None, row, Judgement(""), row.reduced, seeds=len(rows))] if row else []
    return found


def _line(
    figure: Published,
    own: Sequence[Measured],
    figures: Sequence[Published],
    rules: Rules,
    protocol: Mapping[str, Any],
    unrun: Judgement,
) -> Line:
    """One published figure with what was measured of it."""
    rows = chosen(own, figure)
    whole = _whole(rows, figure.fold)
    found, differs = seeds_together(whole), rules.difference_of(figure.run)
    reduced = found.reduced if found else ""
    if found and not figure.fold and found.fold != ALL:
        folds = f"fold{'s' if len(found.folds) > 1 else ''} {', '.join(found.folds)} only"
        reduced = reduced if folds in reduced else "; ".join(filter(None, [reduced, folds]))
    obstacle = rules.obstacle(figure, protocol if found else {})
    ran = any(not figure.fold or row.fold == figure.fold for row in own)
    if obstacle:
        judgement = Judgement(NOT_COMPARABLE, why=obstacle)
    elif found is None or found.value is None:
        judgement = Judgement("") if ran else unrun
    else:
        siblings = [row for row in figures if (row.metric, row.label) == (figure.metric, figure.label)]
        judgement = judge(figure, rows, siblings, rules, bool(differs or reduced))
    return Line(figure.run, figure, found, judgement, reduced, differs, max(1, len(whole)))


def _whole(rows: Sequence[Measured], fold: str) -> list[Measured]:
    """The rows to show for a figure, one per seed: those of its fold, or of the most folds together."""
    if fold:
        return [row for row in rows if row.fold == fold]
    together = [row for row in rows if not row.fold.isdigit()]
    if together or not rows:
        return together
    first = max(rows, key=lambda row: row.date).fold
    return [row for row in rows if row.fold == first]


def _sought(run: str, metric: str, label: str) -> Published:
    """A figure that nobody published, to find what was measured of it."""
    return Published(run, "", "", "", metric, label, "", "0", "", 1, "", "", "", "read")
