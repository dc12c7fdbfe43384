"""Whether a run folder holds a result: a training that diverged, or did not end, is none."""

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
"""File in a run folder, written where loss or gradients stopped being finite, and taken away where the run went on."""

_MOST_NAMED = 20
_LONGEST_CAUSE = 120  # characters


@dataclass(frozen=True)
class Failure:
    """Why a run is no result.

    Attributes:
        run: The run folder.
        diverged: Whether its loss or gradients stopped being finite; else it is not finished.
        step: From which step on, where that is known.
        cause: What was not finite, such as ``the loss is NaN``; empty where it did not diverge.
        fold: The folder of the fold that diverged, where the run sums up folds.
    """

    run: Path
    diverged: bool
    step: int | None = None
    cause: str = ""
    fold: Path | None = None

    @property
    def reason(self) -> str:
        """In a few words: ``diverged at step 8``, ``not finished``."""
        step = "" if self.step is None else f" at step {self.step}"
        fold = "" if self.fold is None else f" in {printable(self.fold.name)}"
        return f"diverged{step}{fold}" if self.diverged else "not finished"

    def __str__(self) -> str:
        return f"{printable(self.run)} ({self.reason})"


def listed(failures: Sequence[Failure]) -> str:
    """Runs that are no result with their reasons, as part of a sentence: the first twenty, and how many more."""
    names = [str(one) for one in failures[:_MOST_NAMED]]
    more = len(failures) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def failure(run: Path) -> Failure | None:
    """Why a run is no result.

    Args:
        run: A run folder, of whatever version; it need not be finished.

    Returns:
        None where the run is sound and finished, where it logged no loss that can be read here (scores of masks made
        elsewhere, loggers that keep their files elsewhere), and where the folder is that of no run.
    """
    found = divergence(run)
    if found is None and (run / "config.yaml").exists() and not (run / "scans.csv").exists():
        return Failure(run, diverged=False)
    return found


def divergence(run: Path) -> Failure | None:
    """From where on the training of a run was not finite.

    Args:
        run: A run folder; of one that sums up folds, their folders are looked at, as far as they are there.

    Returns:
        None where it was finite throughout, or where nothing tells.
    """
    if (own := _of_training(run)) is not None:
        return own
    for fold in _folds(run):
        if (found := _of_training(fold)) is not None:
            return replace(found, run=run, fold=fold)
    return None


def _of_training(run: Path) -> Failure | None:
    """From where on the training in this very folder was not finite."""
    mark = run / MARK
    if mark.exists():
        return _marked(run, mark)
    curve = loss_curve(run)
    wrong = curve.index[~np.isfinite(curve.to_numpy())]
    return Failure(run, diverged=True, step=int(wrong[0]), cause="the loss is not finite") if len(wrong) else None


def _marked(run: Path, mark: Path) -> Failure:
    """What a mark tells; a damaged one is a mark all the same."""
    try:
        told = read_mapping(mark)
    except UserError:
        told = {}
    step, reason = told.get("step"), told.get("reason")
    known = isinstance(step, int) and not isinstance(step, bool)
    cause = printable(reason)[:_LONGEST_CAUSE].strip(" .") if isinstance(reason, str) else ""
    return Failure(
        run, diverged=True, step=step if known else None, cause=cause or "its loss or gradients are not finite"
    )


def _folds(run: Path) -> Iterator[Path]:
    """The folders of the folds that a run sums up."""
    record = run / "provenance.json"
    try:
        runs = read_mapping(record).get("runs") if record.exists() else None
    except UserError:  # told where the run itself is read
        return
    for entry in runs if isinstance(runs, list) else ():
        folder = entry.get("folder") if isinstance(entry, dict) else None
        if isinstance(folder, str) and (path := run / folder).is_dir():
            yield path
