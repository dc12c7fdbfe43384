"""What a study published and what was measured here: two tables beside its runs, set side by side with a verdict."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from segment.errors import UserError
from segment.files import write_text
from segment.text import printable

ALL = "all"
"""What the column ``fold`` of ``measured.csv`` says of all folds' scans together."""

NOT_RUN, DATA_NEEDED = "not run", "not run (data needed)"
REPRODUCED, BELOW, ABOVE = "reproduced", "below", "above"
VERDICTS = (REPRODUCED, BELOW, ABOVE, NOT_RUN, DATA_NEEDED)
"""A published value lies inside the 95 % interval of what was measured, or the interval lies below or above it;
there is no finished run, where the data set is or is not here."""

_MOST_BYTES, _MOST_ROWS = 4_000_000, 20_000


@dataclass(frozen=True)
class Published:
    """A row of ``published.csv``: one figure, as its source prints it.

    Attributes:
        run: Run of the study that is to reproduce it; empty for a method that is not here.
        method: What the source calls it.
        data: Name of the data set.
        split: What the source says of training and test scans.
        metric: Column of ``scans.csv`` it is to be compared with, such as ``dice``; else what it is, such as ``hours``.
        label: Name of a label, or ``foreground``; empty where it is no score.
        fold: Number of a fold; empty for a figure of all of them.
        value: The digits that the source prints.
        spread: The same for what stands behind its plus-minus; empty for none.
        scale: 100 where the source prints percent, else 1.
        overlap: Of the windows.
        test_time_augmentation: Mirrored or otherwise changed views.
        source: Where it is printed.
        sure: ``read`` in the source itself, or ``secondary``.
    """

    run: str
    method: str
    data: str
    split: str
    metric: str
    label: str
    fold: str
    value: str
    spread: str
    scale: int
    overlap: str
    test_time_augmentation: str
    source: str
    sure: str

    def __post_init__(self) -> None:
        if self.scale not in (1, 100):
            raise ValueError("scale must be 1 or 100")
        for name, expect in (("value", _number), ("spread", _number), ("fold", _whole)):
            text = getattr(self, name)
            try:
                if text or name == "value":
                    expect(text)
            except ValueError as error:
                raise ValueError(f"column {name!r} holds {printable(text[:80])!r}; {error}") from None

    @property
    def decimals(self) -> int:
        """Decimals that what was measured is shown with beside it."""
        return 4 if self.scale == 1 else 2


@dataclass(frozen=True)
class Measured:
    """A row of ``measured.csv``: one figure that a run came to.

    Attributes:
        run: Run of the study.
        fold: Number of the fold, ``all``, or several numbers joined by ``+``.
        metric: Column of ``scans.csv``.
        label: Name of a label, or ``foreground``.
        value: Mean over scans; of the foreground the mean over labels of it. None where nothing was scored.
        sd: Standard deviation over scans.
        ci95_low: Low end of its 95 % interval (bootstrap over scans); None with fewer than two scans.
        ci95_high: High end.
        scans: How many have a score.
        seed: The run's seed.
        steps: Training steps a fold.
        hours: Wall time of all of it; None where not known.
        hardware: What it ran on.
        versions: Of Python and the packages.
        commit: Of the code.
        date: ISO date at which the last fold began.
        reduced: In what the run was another protocol than the study's; empty for nothing.
        provenance: File of the run's provenance, relative to the study's folder.
    """

    run: str
    fold: str
    metric: str
    label: str
    value: float | None
    sd: float | None
    ci95_low: float | None
    ci95_high: float | None
    scans: int
    seed: int
    steps: int
    hours: float | None
    hardware: str
    versions: str
    commit: str
    date: str
    reduced: str
    provenance: str

    @property
    def folds(self) -> list[str]:
        """The folds it was measured on; ``all`` is one word."""
        return self.fold.split("+")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval."""
        return None if self.ci95_low is None or self.ci95_high is None else (self.ci95_low, self.ci95_high)

    def replaces(self, other: Measured) -> bool:
        """Whether the other is the same figure of the same run, measured before, or over some of these folds only."""
        if any(getattr(self, key) != getattr(other, key) for key in ("run", "seed", "steps", "metric", "label")):
            return False
        if len(other.folds) > 1 and (self.fold == ALL or set(other.folds) < set(self.folds)):
            return True
        return (self.fold, self.hardware) == (other.fold, other.hardware)


@dataclass(frozen=True)
class Line:
    """A published figure and what was measured of it.

    Attributes:
        run: Run of the study.
        published: The figure; None where nothing is published of this run.
        measured: None where nothing was.
        verdict: One of `VERDICTS`; empty for nothing to judge: no published figure, no such metric or no interval.
        reduced: In what the run was another protocol; empty for nothing.
    """

    run: str
    published: Published | None
    measured: Measured | None
    verdict: str
    reduced: str


Row = TypeVar("Row", Published, Measured)


def read_published(study: Path) -> list[Published]:
    """Read ``published.csv`` of a study; empty where there is none.

    Args:
        study: The study's folder.

    Raises:
        UserError: The file is no such table, naming the line and the column.
    """
    return _read(study / "published.csv", Published)


def read_measured(study: Path) -> list[Measured]:
    """Read ``measured.csv`` of a study; empty where there is none. Raises as `read_published`."""
    return _read(study / "measured.csv", Measured)


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write a table so that reading it gives the same rows, whole or not at all."""
    write_text(path, as_csv([field.name for field in fields(kind)], (asdict(row).values() for row in rows)))


def as_csv(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Text of comma-separated values; None is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def verdict(published: Published, measured: Measured | None, data_here: bool = True) -> str:
    """The verdict on one figure.

    Args:
        published: The figure.
        measured: What was measured of it; None where no run is finished or it has no such metric.
        data_here: Whether the data set is, for where there is no run.

    Returns:
        One of `VERDICTS`; empty where too few scans were measured for an interval.
    """
    if measured is None:
        return NOT_RUN if data_here else DATA_NEEDED
    if measured.interval is None:
        return ""
    value = float(published.value) / published.scale
    low, high = measured.interval
    return BELOW if high < value else ABOVE if low > value else REPRODUCED


def compare(
    run: str, published: Sequence[Published], measured: Sequence[Measured], data_here: bool = True
) -> list[Line]:
    """Set what was measured of one run beside what is published of it.

    Args:
        run: The run.
        published: All figures of its study; those without a label are no scores and are passed over.
        measured: All that was measured in its study.
        data_here: Whether the data set is, for where there is no run.

    Returns:
        A line for each published figure; where none is, one for each metric and label of all folds together, or one
        line of nothing.
    """
    own = [row for row in measured if row.run == run]
    lines = []
    for figure in (row for row in published if row.run == run and row.label):
        found = _best(own, figure.metric, figure.label, figure.fold)
        reduced = found.reduced if found else ""
        if found and not figure.fold and found.fold != ALL:
            folds = f"fold{'s' if len(found.folds) > 1 else ''} {', '.join(found.folds)} only"
            reduced = reduced if folds in reduced else "; ".join(filter(None, [reduced, folds]))
        ran = any(not figure.fold or row.fold == figure.fold for row in own)
        word = "" if ran and found is None else verdict(figure, found, data_here or bool(own))
        lines.append(Line(run, figure, found, word, reduced))
    if lines:
        return lines
    if not own:
        return [Line(run, None, None, NOT_RUN if data_here else DATA_NEEDED, "")]
    names = dict.fromkeys((row.metric, row.label) for row in own)
    best = [_best(own, metric, label, "") for metric, label in names]
    return [Line(run, None, row, "", row.reduced) for row in best if row is not None]


def _best(rows: Sequence[Measured], metric: str, label: str, fold: str) -> Measured | None:
    """What speaks of a figure: the fold's row, or that of the most folds; the longest and latest of several."""
    found = [
        row
        for row in rows
        if row.metric == metric and row.label.casefold() == label.casefold() and (not fold or row.fold == fold)
    ]
    return max(
        found, key=lambda row: (row.fold == ALL, len(row.folds), not row.reduced, row.steps, row.date), default=None
    )


def _read(path: Path, kind: type[Row]) -> list[Row]:
    if not path.is_file():
        return []
    columns = get_type_hints(kind)
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} has more than {_MOST_BYTES:,} bytes, so it is no table of figures.")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.reader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a table of comma-separated values ({printable(error)}). Mend it.") from None
    if not table or table[0] != list(columns):
        raise UserError(f"{path} must begin with the line {','.join(columns)}.")
    if len(table) > _MOST_ROWS:
        raise UserError(f"{path} has more than {_MOST_ROWS:,} rows, so it is no table of figures.")
    return [_row(path, number, cells, kind, columns) for number, cells in enumerate(table[1:], 2)]


def _row(path: Path, number: int, cells: Sequence[str], kind: type[Row], columns: Mapping[str, Any]) -> Row:
    where = f"{path}, row {number}"
    if len(cells) != len(columns):
        raise UserError(f"{where}: has {len(cells)} columns, not {len(columns)}. Mend it.")
    values: dict[str, Any] = {}
    for (name, wanted), cell in zip(columns.items(), cells, strict=True):
        try:
            values[name] = cell if wanted is str else _whole(cell) if wanted is int else _number(cell) if cell else None
        except ValueError as error:
            raise UserError(f"{where}: column {name!r} holds {printable(cell[:80])!r}; {error}.") from None
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from None


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError("expected a whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("expected a number")
    return number
