"""Finds the runs to compare, without importing pandas and SciPy."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from segment.errors import UserError
from segment.text import printable

MOST_RUNS = 1000


def find_runs(runs: str | Sequence[str]) -> list[Path]:
    """Find the runs that a user names.

    Args:
        runs: Run folders, tables of scans, or patterns such as ``runs/*``, which match folders and ``.csv`` files.

    Returns:
        At least two paths, in the given order; matches of a pattern are sorted.

    Raises:
        UserError: A path does not exist or is given twice, a pattern matches nothing, or there is only one run.
    """
    found: dict[Path, Path] = {}
    for item in [runs] if isinstance(runs, str) else runs:
        path = Path(item).expanduser()
        if path.exists():
            paths = [path]
        elif any(letter in item for letter in "*?["):
            # Unlike Path.glob, this skips hidden folders, such as those of sweeps.
            matches = [Path(match) for match in sorted(glob.glob(str(path)))]  # noqa: PTH207
            matches = [match for match in matches if not (match / "pretraining.json").exists()]  # it has no scores
            paths = [match for match in matches if match.is_dir() or match.suffix == ".csv"]
            if not paths:
                raise UserError(f"runs={item}: no run folder matches. Check the current folder.")
        else:
            raise UserError(
                f"runs={item}: no such folder or file. Give some, such as runs=[runs/A,runs/B] or runs='runs/*'."
            )
        for path in paths:
            place = path.resolve()
            place = place.parent if place.name == "scans.csv" else place
            if place in found:
                raise UserError(f"runs: {printable(path)} and {printable(found[place])} are the same. Give it once.")
            found[place] = path
    if len(found) < 2:
        raise UserError("runs: a comparison needs two runs, runs=[runs/A,runs/B], or a pattern, runs='runs/*'.")
    if len(found) > MOST_RUNS:
        raise UserError(f"runs: {len(found)} runs are more than {MOST_RUNS}. Give fewer.")
    return list(found.values())
