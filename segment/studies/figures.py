"""The tables of a study, ``published.csv`` and ``measured.csv``, read and written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field

from segment.errors import UserError
from segment.files import write_text
from segment.text import printable
from segment.validation import matching, read_as

ALL = "all"
"""Value of the column ``fold`` of ``measured.csv`` for the scans of all folds together."""

_MAX_BYTES, _MAX_ROWS = 4_000_000, 20_000

NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)"
Count = Annotated[int, Field(ge=0, lt=10**15)]
Figure = Annotated[Annotated[float, Field(allow_inf_nan=False)] | None, BeforeValidator(lambda text: text or None)]


@dataclass(frozen=True)
class Published:
    """A row of ``published.csv``: one published figure, as printed in its source.

    Attributes:
        run: Run of the study that reproduces it; empty for a method without a run.
        method: Name of the method in the source.
        data: Name of the data set.
        split: Training and test scans, as the source describes them.
        metric: Column of ``scans.csv`` to compare it with, such as ``dice``; else another quantity, such as ``hours``.
        label: Name of a label, or ``foreground``; empty if the figure is not a score.
        fold: Number of a fold; empty for a figure over all folds.
        value: The value, with the digits that the source prints.
        spread: The value after the plus-minus sign, likewise; empty for none.
        scale: 100 if the source prints percent, else 1.
        overlap: Overlap of the sliding windows.
        test_time_augmentation: Mirrored or otherwise augmented views.
        source: Where the figure is printed.
        sure: ``read`` if taken from the source itself, or ``secondary``.
    """

    run: str
    method: str
    data: str
    split: str
    metric: str
    label: str
    fold: Annotated[str, matching(r"\d{0,15}", "an integer")]
    value: Annotated[str, matching(NUMBER, "a number")]
    spread: Annotated[str, matching(f"({NUMBER})?", "a number")]
    scale: Annotated[Literal[1, 100], BeforeValidator(int)]
    overlap: str
    test_time_augmentation: str
    source: str
    sure: str

    @property
    def decimals(self) -> int:
        """Number of decimals for the measured figure beside it."""
        return 4 if self.scale == 1 else 2


@dataclass(frozen=True)
class Measured:
    """A row of ``measured.csv``: one measured figure of a run.

    Attributes:
        run: Run of the study.
        fold: Number of the fold, ``all``, or several numbers joined by ``+``.
        metric: Column of ``scans.csv``.
        label: Name of a label, or ``foreground``.
        value: Mean over scans; for the foreground, the mean over labels of these means. None if nothing was scored.
        sd: Standard deviation over scans.
        ci95_low: Lower bound of the 95 % interval (bootstrap over scans); None with fewer than two scans.
        ci95_high: Upper bound.
        scans: Number of scans with a score.
        seed: The run's seed.
        steps: Training steps per fold.
        hours: Total wall time; None if unknown.
        hardware: Hardware of the run.
        versions: Versions of Python and the packages.
        commit: Git commit of the code.
        date: ISO date on which the last fold started.
        reduced: How the run's protocol deviates from the study's; empty if it does not.
        provenance: The run's provenance file, relative to the study's folder.
    """

    run: str
    fold: str
    metric: str
    label: str
    value: Figure
    sd: Figure
    ci95_low: Figure
    ci95_high: Figure
    scans: Count
    seed: Count
    steps: Count
    hours: Figure
    hardware: str
    versions: str
    commit: str
    date: str
    reduced: str
    provenance: str

    @property
    def folds(self) -> list[str]:
        """The folds it was measured on; ``all`` counts as one entry."""
        return self.fold.split("+")

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval."""
        return None if self.ci95_low is None or self.ci95_high is None else (self.ci95_low, self.ci95_high)

    def replaces(self, other: Measured) -> bool:
        """Whether the other row is an earlier measurement of the same figure, or one over a subset of these folds."""
        if any(getattr(self, key) != getattr(other, key) for key in ("run", "seed", "steps", "metric", "label")):
            return False
        if len(other.folds) > 1 and (self.fold == ALL or set(other.folds) < set(self.folds)):
            return True
        return (self.fold, self.hardware) == (other.fold, other.hardware)


Row = TypeVar("Row", Published, Measured)


def read_published(study: Path) -> list[Published]:
    """Read ``published.csv`` of a study; empty if there is none.

    Args:
        study: The study's folder.

    Raises:
        UserError: When the file is not such a table; the message names the row and column.
    """
    return _read(study / "published.csv", Published)


def read_measured(study: Path) -> list[Measured]:
    """Read ``measured.csv`` of a study; empty if there is none. Raises as `read_published`."""
    return _read(study / "measured.csv", Measured)


def write_rows(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write a table atomically; reading it returns the same rows."""
    write_text(path, as_csv([field.name for field in fields(kind)], (asdict(row).values() for row in rows)))


def as_csv(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Format rows as comma-separated values; None becomes an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def _read(path: Path, kind: type[Row]) -> list[Row]:
    if not path.is_file():
        return []
    columns = [field.name for field in fields(kind)]
    if path.stat().st_size > _MAX_BYTES:
        raise UserError(f"{path} has more than {_MAX_BYTES:,} bytes, so it is not a table of figures.")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.reader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a table of comma-separated values ({printable(error)}). Fix it.") from None
    if not table or table[0] != columns:
        raise UserError(f"{path} must begin with the line {','.join(columns)}.")
    if len(table) > _MAX_ROWS:
        raise UserError(f"{path} has more than {_MAX_ROWS:,} rows, so it is not a table of figures.")
    rows = []
    for number, cells in enumerate(table[1:], 2):
        where = f"{path}, row {number}"
        if len(cells) != len(columns):
            raise UserError(f"{where}: has {len(cells)} columns, not {len(columns)}. Fix it.")
        rows.append(read_as(kind, dict(zip(columns, cells, strict=True)), where))
    return rows
