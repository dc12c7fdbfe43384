"""Text and tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def printable(text: object) -> str:
    """Make text from a file safe to print, since a terminal would interpret control characters.

    Args:
        text: Any object; it is converted to a string.

    Returns:
        The text with every control character, including line breaks, replaced by U+FFFD.
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


def table(rows: Sequence[Sequence[str]]) -> str:
    """A text table: columns are two spaces apart, each as wide as its widest cell."""
    printed = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*printed, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in printed)
    return "\n".join(line.rstrip() for line in lines)


def one_line(error: BaseException) -> str:
    """The message of an exception, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


WIDTH = 140  # if the output is not a terminal


MIN_WIDTH = {"paper": 125, "about": 95}  # of a terminal for these columns to be printed


TEXT_COLUMNS = ("name", "dims", "study", "part", "paper", "about")


def output() -> Console:
    """Console on standard output; a closed pipe ends it without an error."""
    width = None if Console().is_terminal else WIDTH
    return Console(width=width, highlight=False)


def print_table(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that share their keys; with many columns, each row takes one line."""
    if not rows:
        console.out(f"{title}: none yet")
        return
    many = len(rows[0]) > 4
    columns = [key for key in rows[0] if not many or console.width >= MIN_WIDTH.get(key, 0)]
    table = Table(
        title=title or None, title_justify="left", box=None, pad_edge=False, expand=many and "about" in columns
    )
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in TEXT_COLUMNS else "right",
            no_wrap=many,
            max_width=30 if column == "paper" else None,
            ratio=1 if many and column == "about" else None,
        )
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    console.print(table)
