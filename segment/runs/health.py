"""Detects runs without a valid result: training diverged or is not finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segment.errors import UserError
from segment.files import read_mapping
from segment.runs.curves import loss_curve
from segment.text import printable

MARK = "diverged.json"
"""File in a run folder, written if loss or gradients stop being finite, and removed if the run continues."""

_MOST_NAMED = 20
_LONGEST_CAUSE = 120  # characters


@dataclass(frozen=True)
class Failure:
    """Why a run has no valid result.

    Attributes:
        run: The run folder.
        diverged: Whether its loss or gradients stopped being finite; otherwise the run is not finished.
        step: First non-finite step, if known.
        cause: What was not finite, such as ``the loss is NaN``; empty if the run did not diverge.
        fold: Folder of the fold that diverged, if the run summarises several folds.
    """

    run: Path
    diverged: bool
    step: int | None = None
    cause: str = ""
    fold: Path | None = None

    @property
    def reason(self) -> str:
        """The reason in a few words: ``diverged at step 8``, ``not finished``."""
        step = "" if self.step is None else f" at step {self.step}"
        fold = "" if self.fold is None else f" in {printable(self.fold.name)}"
        return f"diverged{step}{fold}" if self.diverged else "not finished"

    def __str__(self) -> str:
        return f"{printable(self.run)} ({self.reason})"


def listed(failures: Sequence[Failure]) -> str:
    """Failed runs with their reasons, as part of a sentence: the first twenty and the number of others."""
    names = [str(one) for one in failures[:_MOST_NAMED]]
    more = len(failures) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def failure(run: Path) -> Failure | None:
    """Why a run has no valid result.

    Args:
        run: A run folder of any version; the run need not be finished.

    Returns:
        None if the run finished without diverging, if it logged no readable loss (scores of masks from other programs,
        loggers that store their files elsewhere), or if the folder does not belong to a run.
    """
    found = divergence(run)
    if found is None and (run / "config.yaml").exists() and not (run / "scans.csv").exists():
        return Failure(run, diverged=False)
    return found


def divergence(run: Path) -> Failure | None:
    """The first step from which the training of a run was not finite.

    Args:
        run: A run folder; if it summarises several folds, their existing folders are checked too.

    Returns:
        None if training was finite throughout, or if that is unknown.
    """
    if (own := _training_divergence(run)) is not None:
        return own
    for fold in _folds(run):
        if (found := _training_divergence(fold)) is not None:
            return replace(found, run=run, fold=fold)
    return None


def _training_divergence(run: Path) -> Failure | None:
    """The divergence of the training in this folder itself, if any."""
    mark = run / MARK
    if mark.exists():
        return _read_mark(run, mark)
    curve = loss_curve(run)
    bad_steps = curve.index[~np.isfinite(curve.to_numpy())]
    return (
        Failure(run, diverged=True, step=int(bad_steps[0]), cause="the loss is not finite") if len(bad_steps) else None
    )


def _read_mark(run: Path, mark: Path) -> Failure:
    """The failure that a mark records; a damaged mark counts too."""
    try:
        record = read_mapping(mark)
    except UserError:
        record = {}
    step, reason = record.get("step"), record.get("reason")
    known = isinstance(step, int) and not isinstance(step, bool)
    cause = printable(reason)[:_LONGEST_CAUSE].strip(" .") if isinstance(reason, str) else ""
    return Failure(
        run, diverged=True, step=step if known else None, cause=cause or "its loss or gradients are not finite"
    )


def _folds(run: Path) -> Iterator[Path]:
    """The folders of the folds that a run summarises."""
    record = run / "provenance.json"
    try:
        runs = read_mapping(record).get("runs") if record.exists() else None
    except UserError:  # reported when the run itself is read
        return
    for entry in runs if isinstance(runs, list) else ():
        folder = entry.get("folder") if isinstance(entry, dict) else None
        if isinstance(folder, str) and (path := run / folder).is_dir():
            yield path
