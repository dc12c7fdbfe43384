"""Copies of a data set without what its files tell about patients."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from segment.errors import UserError
from segment.files import write_text
from segment.io.formats import listed
from segment.privacy.files import copies
from segment.privacy.values import findings_in_names


@dataclass(frozen=True)
class Copying:
    """How to copy.

    Attributes:
        number: Whether names are numbered, see `segment.privacy.names.numbered`.
        table: File for a table of old and new names; None: none is written.
    """

    number: bool = False
    table: Path | None = None


@dataclass(frozen=True)
class Job:
    """One file to write.

    Attributes:
        path: The file.
        write: Writes it.
    """

    path: Path
    write: Callable[[], None]


def anonymous_jobs(source: Path, output: Path, copying: Copying) -> tuple[list[Job], list[Path]]:
    """Plan copies without what files tell about patients; what is left is said on stderr.

    Args:
        source: A file or a folder.
        output: Folder for the copies.
        copying: How to copy.

    Returns:
        The jobs, and the files that they read.

    Raises:
        UserError: If there is nothing to copy, or the table of names would lie among the copies.
    """
    planned, left = copies(source, output, copying.number)
    if not planned:
        raise UserError(f"input={source}: has neither an image file nor a DICOM file. Formats read: {listed()}.")
    folder = source if source.is_dir() else source.parent
    sources = [copy.source for copy in planned]
    telling = [] if copying.number else [item.file for item in findings_in_names(folder, sources)]
    for files, what in ((left, "not copied, being no image"), (telling, "keeps its telling name")):
        if files:
            more = f", and {len(files) - 1} more" if len(files) > 1 else ""
            print(f"Note: {files[0]}: {what}{more}.", file=sys.stderr)
    jobs = [Job(copy.target, copy.write) for copy in planned]
    if copying.table is not None:
        if copying.table.absolute().is_relative_to(output.absolute()):
            raise UserError(f"names_table={copying.table}: would go wherever {output} goes. Write it elsewhere.")
        pairs = [(copy.source.relative_to(folder), copy.target.relative_to(output)) for copy in planned]
        import pandas as pd  # here, since it takes a second to import

        text = pd.DataFrame(pairs, columns=["old", "new"]).to_csv(index=False)
        jobs.append(Job(copying.table, partial(write_text, copying.table, text)))
    return jobs, sources
