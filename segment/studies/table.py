"""Formats published and measured figures: table cells, Markdown, and records for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from segment.studies.figures import ALL, Published
from segment.studies.ledger import Line
from segment.studies.verdict import INCONCLUSIVE, NOT_COMPARABLE
from segment.text import markdown as escaped
from segment.text import markdown_table


def cells(line: Line, with_protocol: bool = True) -> tuple[str, str, str, str, str, str, str]:
    """The cells of a line, as text, in the columns `HEADS`.

    Args:
        line: The line.
        with_protocol: Whether to append the `protocol` to the published figure.
    """
    figure, found, judged = line.published, line.measured, line.judgement
    word = f"{line.verdict} (reduced)" if line.reduced and found and line.verdict else line.verdict or "-"
    date = found.date if found else "-"
    if figure is None:
        texts = (_named(found.metric, found.label, ""), "-", _measured(line, 1, 4)) if found else ("-", "-", "-")
        return line.run, *texts, "-", word, date
    value = f"{figure.value} ± {figure.spread}" if figure.spread else figure.value
    value += f" ({protocol(figure)})" if with_protocol else ""
    named = _named(figure.metric, figure.label, figure.fold)
    shown = _measured(line, figure.scale, figure.decimals) if found else "-"
    apart = "-" if judged.difference is None else f"{judged.difference * figure.scale:+.{figure.decimals}f}"
    if judged.interval is not None:
        apart += " ({} to {})".format(*(f"{end * figure.scale:+.{figure.decimals}f}" for end in judged.interval))
    return line.run, named, value, shown, apart, word, date


def protocol(figure: Published) -> str:
    """The protocol of a published figure, as far as its source describes it."""
    sure = "" if figure.sure == "read" else "; secondary source"
    return f"{figure.split}; overlap {figure.overlap}; test-time augmentation {figure.test_time_augmentation}{sure}"


def _named(metric: str, label: str, fold: str) -> str:
    return f"{metric}, {label}" + (f", fold {fold}" if fold else "")


def _measured(line: Line, scale: int, decimals: int) -> str:
    """``0.8875 (0.8761 - 0.8972), 52 scans, fold 0``, or ``0.8981, mean of 3 seeds, 260 scans, all folds``."""
    row = line.measured
    if row is None or row.value is None:
        return "not scored"
    value = f"{row.value * scale:.{decimals}f}"
    folds = "all folds" if row.fold == ALL else f"fold{'s' if len(row.folds) > 1 else ''} {', '.join(row.folds)}"
    if line.seeds > 1:
        return f"{value}, mean of {line.seeds} seeds, {row.scans} scans, {folds}"
    ends = (
        " - ".join(f"{end * scale:.{decimals}f}" for end in row.interval) if row.interval else "too few for an interval"
    )
    return f"{value} ({ends}), {row.scans} scans, {folds}"


HEADS = ("run", "figure", "published", "measured (95 % interval)", "difference (90 %)", "verdict", "date")


def footnotes(lines: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """Titles and texts of the notes under a table: what was reduced, what differs, why there is no verdict."""
    reasons = [
        ("Reduced", [(line.run, line.reduced) for line in lines if line.reduced and line.measured]),
        ("Differs", [(line.run, line.differs) for line in lines if line.differs and line.measured]),
        *(
            (title, [(line.run, line.judgement.why) for line in lines if line.verdict == title.lower()])
            for title in (INCONCLUSIVE.capitalize(), NOT_COMPARABLE.capitalize())
        ),
    ]
    for title, notes in reasons:
        by_text: dict[str, list[str]] = {}
        for run, text in dict.fromkeys(notes):
            by_text.setdefault(text, []).append(run)
        yield from ((title, f"{', '.join(runs)}: {text}") for text, runs in by_text.items())


def records(lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """Lines as records: numbers as fractions, ``published`` as its source prints it."""
    for line in lines:
        figure, found = line.published, line.measured
        either = figure or found
        yield {
            "run": line.run,
            "metric": either.metric if either else "",
            "label": either.label if either else "",
            "fold": figure.fold if figure else "",
            "published": figure.value if figure else None,
            "scale": figure.scale if figure else None,
            "measured": found.value if found else None,
            "ci95_low": found.ci95_low if found else None,
            "ci95_high": found.ci95_high if found else None,
            "scans": found.scans if found else None,
            "folds": found.fold if found else None,
            "difference": line.judgement.difference,
            "ci90_low": line.judgement.interval[0] if line.judgement.interval else None,
            "ci90_high": line.judgement.interval[1] if line.judgement.interval else None,
            "seeds": line.seeds if found else None,
            "verdict": line.verdict,
            "why": line.judgement.why,
            "differs": line.differs,
            "reduced": line.reduced,
            "date": found.date if found else None,
        }


def markdown(lines: Sequence[Line], made_with: Mapping[str, str] | None = None) -> str:
    """Format a table in Markdown; all text from files is escaped.

    Args:
        lines: The lines.
        made_with: The protocol of each run's measured figures, for the notes under the table.
    """
    text = markdown_table(HEADS, [tuple(map(escaped, cells(line))) for line in lines])
    text += "".join(f"\n{title}: {escaped(note)}.\n" for title, note in footnotes(lines))
    return text + "".join(f"\nMeasured: {escaped(f'{run}: {text}')}\n" for run, text in (made_with or {}).items())
