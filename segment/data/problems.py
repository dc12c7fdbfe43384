"""What can be wrong with a data set: one problem, and the ways to report it instead of stopping at the first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from segment.errors import UserError

ERROR, WARNING = "error", "warning"

# Kind to heading, in the order in which a report shows them.
KINDS = {
    "description": "The description of the data set is not sound",
    "labels": "The table of labels is not sound",
    "missing": "Files or cases are missing",
    "duplicate": "Something is listed twice",
    "unlisted": "Files that nothing lists",
    "unreadable": "Files cannot be read",
    "channels": "The number of channels is not the declared one",
    "dimensions": "2D and 3D are mixed",
    "grid": "Files of one scan lie on different voxel grids",
    "forms": "The two positions in a header disagree",
    "header": "Headers say something doubtful",
    "scaling": "The scaling in a header spoils the values",
    "not_finite": "Voxels are NaN or infinite",
    "constant": "Images hold one value only",
    "not_a_mask": "Label files are no masks",
    "undeclared": "Label files hold values that no label declares",
    "unused": "Labels that never occur",
    "empty": "Scans without any foreground",
    "identical": "The same voxels stand under two names",
    "splits": "The splits file is not sound",
    "spacing": "Voxel sizes far from the other scans'",
    "size": "Scan sizes far from the other scans'",
    "orientation": "Scans lie differently in the body",
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    Attributes:
        kind: One of `KINDS`.
        file: The file, folder or key that it is about.
        what: What is wrong with it, a full sentence.
        fix: What to do about it; may be empty.
        severity: ``error``: training would fail or its numbers would be wrong; ``warning``: worth a look.
    """

    kind: str
    file: str
    what: str
    fix: str
    severity: str = ERROR

    def __str__(self) -> str:
        return f"{self.file}: {self.what} {self.fix}".strip()


Report = Callable[[Problem], None]


def raise_errors(problem: Problem) -> None:
    """The reporter that stops at the first error and passes over warnings.

    Args:
        problem: What was found.

    Raises:
        UserError: When it is an error.
    """
    if problem.severity == ERROR:
        raise UserError(str(problem))


def problem_of(error: UserError, kind: str, file: Path | str) -> Problem:
    """Read a problem out of a user's error, whose last sentence says how to mend it.

    Args:
        error: One paragraph: the file, what is wrong, how to mend it.
        kind: One of `KINDS`.
        file: The file that it is about.

    Returns:
        The problem, an error.
    """
    text = str(error).removeprefix(str(file)).lstrip(": ")
    what, found, fix = text.rpartition(". ")
    return Problem(kind, str(file), f"{what}." if found else text, fix if found else "Correct it.")


@contextlib.contextmanager
def reported(report: Report, kind: str, file: Path | str) -> Iterator[None]:
    """Report a user's error of the block as a problem; what follows the block goes on.

    Args:
        report: Where problems go.
        kind: One of `KINDS`.
        file: The file that the block is about.
    """
    try:
        yield
    except UserError as error:
        if report is raise_errors:
            raise
        report(problem_of(error, kind, file))
