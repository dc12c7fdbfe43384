"""Problems of a data set, and ways to report them all instead of stopping at the first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from segment.errors import UserError
from segment.validation import one_of

ERROR, WARNING = "error", "warning"

# Kind to heading, in the order of a report.
KINDS = {
    "description": "The description of the data set is invalid",
    "labels": "The label table is invalid",
    "missing": "Files or cases are missing",
    "duplicate": "Duplicate files or entries",
    "unlisted": "Files that are not listed",
    "unreadable": "Files cannot be read",
    "channels": "The number of channels differs from the declared one",
    "dimensions": "2D and 3D scans are mixed",
    "grid": "Files of one scan have different voxel grids",
    "forms": "sform and qform disagree",
    "header": "Headers are suspicious",
    "scaling": "The intensity scaling in a header is invalid or ambiguous",
    "not_finite": "Voxels are NaN or infinite",
    "constant": "Images are constant",
    "not_a_mask": "Label files are not masks",
    "shapes": "Annotated objects are left out",
    "undeclared": "Label files contain undeclared values",
    "unused": "Labels that never occur",
    "rare": "Labels that few scans have",
    "empty": "Scans without foreground",
    "identical": "Scans have identical voxels",
    "splits": "The splits file is invalid",
    "spacing": "Voxel sizes differ strongly from those of the other scans",
    "size": "Scan sizes differ strongly from those of the other scans",
    "orientation": "Scans have different or oblique orientations",
    "privacy": "Files tell something about patients",
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    Attributes:
        kind: One of `KINDS`.
        file: The file, folder or key concerned.
        what: What is wrong, as a full sentence.
        fix: What to do about it; may be empty.
        severity: ``error``: training would fail or give wrong results; ``warning``: worth checking.
    """

    kind: Annotated[str, one_of(KINDS)]
    file: str
    what: str
    fix: str
    severity: Annotated[str, one_of((ERROR, WARNING))] = ERROR

    def __str__(self) -> str:
        return f"{self.file}: {self.what} {self.fix}".strip()


Report = Callable[[Problem], None]


def raise_errors(problem: Problem) -> None:
    """Stop at the first error and ignore warnings.

    Args:
        problem: The problem found.

    Raises:
        UserError: If it is an error.
    """
    if problem.severity == ERROR:
        raise UserError(str(problem))


def problem_of(error: UserError, kind: str, file: Path | str) -> Problem:
    """Convert a `UserError`, whose last sentence says how to fix it, to a problem.

    Args:
        error: One paragraph: the file, what is wrong, how to fix it.
        kind: One of `KINDS`.
        file: The file concerned.

    Returns:
        The problem, with severity error.
    """
    text = str(error).removeprefix(str(file)).lstrip(": ")
    what, found, fix = text.rpartition(". ")
    return Problem(kind, str(file), f"{what}." if found else text, fix if found else "Correct it.")


@contextlib.contextmanager
def reported(report: Report, kind: str, file: Path | str) -> Iterator[None]:
    """Report a `UserError` raised in the block as a problem and continue after the block.

    Args:
        report: Receives the problem.
        kind: One of `KINDS`.
        file: The file that the block processes.
    """
    try:
        yield
    except UserError as error:
        if report is raise_errors:
            raise
        report(problem_of(error, kind, file))
