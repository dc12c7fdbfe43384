"""Text and tables for people: the one renderer for terminals, the one for Markdown."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console

WIDTH = 80
"""Characters in a line where the output is not a terminal and COLUMNS is not set."""

MIN_WIDTH = {"paper": 125, "about": 95}  # of a terminal for these columns to be printed
TEXT_COLUMNS = ("name", "dims", "study", "part", "paper", "about")

_GAP = "  "
_NAME = 12  # names are wrapped down to this width
_BREAKS = re.compile(r"(?<=\s)|(?<=[-_/,;=])(?=[^\d\s])")  # where a name may be wrapped: never within a number


def printable(text: object) -> str:
    """Make text from a file safe to print, since a terminal would interpret control characters.

    Args:
        text: Any object; it is converted to a string.

    Returns:
        The text with every control character, including line breaks, replaced by U+FFFD.
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


def one_line(error: BaseException) -> str:
    """The message of an exception, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def terminal_width() -> int:
    """Characters in a line: COLUMNS, else the terminal's, else `WIDTH`."""
    return max(40, shutil.get_terminal_size((WIDTH, 24)).columns)


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str] | str],
    left: Collection[str] = (),
    keys: int = 1,
    cut: Collection[str] = (),
    width: int | None = None,
) -> str:
    """A table of text that fits the terminal.

    A table that is too wide wraps its headings, then its names. If that is not enough, its columns are printed in
    several blocks, one below the other. No number is ever cut or wrapped.

    Args:
        heads: Headings of the columns.
        rows: Cells of each row; a string in place of a row is a heading over the rows below it.
        left: Headings of the left-aligned columns, whose cells are names; the others are right-aligned.
        keys: Number of first columns that every block repeats.
        cut: Headings of columns whose cells are cut to the room that is left, rather than wrapped.
        width: Largest number of characters in a line; None: that of the terminal.

    Returns:
        Lines of text without colour codes.
    """
    width = terminal_width() if width is None else width
    cells = [row if isinstance(row, str) else [printable(cell) for cell in row] for row in rows]
    columns = [_Column(head, [row[i] for row in cells if not isinstance(row, str)], head in left, head in cut)
               for i, head in enumerate(heads)]  # fmt: skip
    blocks = ["\n".join(_block(columns, block, widths, cells)) for block, widths in _fitted(columns, keys, width)]
    return "\n\n".join(blocks)


class _Column:
    """A column of a table: its cells and how narrow it can become."""

    def __init__(self, head: str, cells: Sequence[str], is_name: bool, is_cut: bool) -> None:
        self.head, self.is_name, self.is_cut = head, is_name, is_cut
        longest = max(map(cell_len, cells), default=0)
        self.full = max(longest, *(cell_len(line) for line in head.split("\n")))
        self.snug = max(longest, *(cell_len(word) for word in head.split() or [""]))  # with its heading wrapped
        self.least = min(self.snug, _NAME) if is_name or is_cut else self.snug

    def lines(self, text: str, width: int) -> list[str]:
        """A cell or the heading, wrapped and aligned."""
        if self.is_cut and cell_len(text) > width:
            text = f"{set_cell_size(text, width - 1).rstrip()}…"
        lines = [line for part in text.split("\n") for line in wrapped(part, width, self.is_name)]
        pads = [" " * (width - cell_len(line)) for line in lines]
        return [
            line + pad if self.is_name or self.is_cut else pad + line for line, pad in zip(lines, pads, strict=True)
        ]


def wrapped(text: str, width: int, is_name: bool = True) -> list[str]:
    """Text in lines of at most `width` characters, broken at spaces; names also after ``-``, ``_`` and ``/``."""
    lines = [""]
    for piece in _BREAKS.split(text) if is_name else re.findall(r"\S+\s*", text):
        if lines[-1] and cell_len((lines[-1] + piece).rstrip()) > width:
            lines.append("")
        lines[-1] += piece
        if is_name and cell_len(lines[-1].rstrip()) > width:
            lines += chop_cells(lines.pop().rstrip(), width)
    return [line.rstrip() for line in lines]


def _fitted(columns: Sequence[_Column], keys: int, width: int) -> list[tuple[list[int], list[int]]]:
    """The columns of each block, by index, and their widths."""
    every = list(range(len(columns)))
    if _total(columns[i].least for i in every) <= width:
        return [(every, _widths(columns, width))]
    blocks: list[list[int]] = []
    for i in every[keys:]:
        if not blocks or _total(columns[j].least for j in (*blocks[-1], i)) > width:
            blocks.append(every[:keys])
        blocks[-1] = [*blocks[-1], i]
    return [(block, _widths([columns[i] for i in block], width)) for block in blocks]


def _widths(columns: Sequence[_Column], width: int) -> list[int]:
    """Widths of columns that fit: headings are wrapped first, then names."""
    widths = [column.full for column in columns]
    stages = (
        [column.snug for column in columns],
        [column.least if column.is_cut else column.snug for column in columns],
        [column.least for column in columns],
    )
    for least in stages:
        for _ in range(_total(widths) - width):
            wide = [i for i, narrowest in enumerate(least) if widths[i] > narrowest]
            if not wide:
                break
            widths[max(wide, key=lambda i: widths[i])] -= 1
    return widths


def _total(widths: Any) -> int:
    sizes = list(widths)
    return sum(sizes) + len(_GAP) * (len(sizes) - 1)


def _block(columns: Sequence[_Column], block: Sequence[int], widths: Sequence[int], rows: Sequence[Any]) -> list[str]:
    """Lines of some columns: headings, a rule, rows."""

    def lines(cells: Sequence[str], bottom: bool = False) -> list[str]:
        parts = [columns[i].lines(cells[i], size) for i, size in zip(block, widths, strict=True)]
        parts = [part[::-1] for part in parts] if bottom else parts
        blank = [" " * size for size in widths]
        made = [
            _GAP.join(cell if cell is not None else empty for cell, empty in zip(line, blank, strict=True)).rstrip()
            for line in zip_longest(*parts)
        ]
        return made[::-1] if bottom else made

    total = _total(widths)
    rule = ("─" if "utf" in (sys.stdout.encoding or "").lower() else "-") * total
    found = [*lines([column.head for column in columns], bottom=True), rule]
    for row in rows:
        found += wrapped(printable(row), total) if isinstance(row, str) else lines(row)
    return found


def markdown(text: object) -> str:
    """Escape text from a file for Markdown, so that it contains no tags, links, cell separators or emphasis."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    plain = re.sub(r"([\\`*\[\]|~#!])", r"\\\1", plain)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", plain).replace("://", "&#58;//")


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int | None = None) -> str:
    """A table in Markdown, of cells that are escaped already (see `markdown`).

    Args:
        heads: Headings of the columns.
        rows: Cells of each row.
        left: Number of first columns that are left-aligned, the others are right-aligned; None: as the
            reader's program does.

    Returns:
        The lines of the table, each ended by a line break.
    """
    sides = ["---" if left is None else ":--" if i < left else "--:" for i in range(len(heads))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (heads, sides, *rows))


def output() -> Console:
    """Console on standard output; a closed pipe ends it without an error."""
    return Console(width=terminal_width(), highlight=False)


def print_json(content: Any) -> None:
    """Print a command's result for programs, as JSON on standard output.

    Raises:
        ValueError: When a number is not finite; JSON has none such.
    """
    output().out(json.dumps(content, indent=2, allow_nan=False))


def print_table(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that share their keys; with many columns, texts are cut, or left out where there is no room."""
    if not rows:
        console.out(f"{title}: none yet")
        return
    many = len(rows[0]) > 4
    columns = [key for key in rows[0] if not many or console.width >= MIN_WIDTH.get(key, 0)]
    hidden = [key for key in rows[0] if key not in columns]
    cells = [[str(row[column]) for column in columns] for row in rows]
    cut = [column for column in columns if many and column in MIN_WIDTH]
    if title:
        console.out(title)
    console.out(table(columns, cells, left=TEXT_COLUMNS, cut=cut, width=console.width))
    if hidden:
        console.out(f"A wider terminal, or format=json, shows {' and '.join(hidden)} too.")
