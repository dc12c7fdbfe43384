"""Which scans of the runs are compared: those that they are judged by, or those of one split such as the test scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from segment.errors import UserError
from segment.runs.folder import RunFolder
from segment.runs.metrics import metric_info
from segment.runs.scans import TEST, joined, mean_over_folds, metric_columns, parted
from segment.text import printable


def of_split(run: RunFolder, split: str | None) -> RunFolder:
    """A run with the scans of one split only.

    Args:
        run: The run.
        split: Name of the split; None: all scans but the test scans that were scored beside others.

    Returns:
        The run; test scans belong to no fold, and one that the models of several folds predicted has their mean score.

    Raises:
        UserError: The run has no such scans.
    """
    if split is None:
        return replace(run, scans=parted(run.scans)[0])
    scans = run.scans[run.scans["split"] == split]
    if scans.empty:
        splits = ", ".join(sorted({printable(name) for name in run.scans["split"]}))
        raise UserError(
            f"split={split}: {printable(run.path)} has no such scans, only those of {splits or 'no split'}. "
            "Compare runs that were scored on them; segment train scores test scans that have a label."
        )
    return together([replace(run, scans=scans)]) if split == TEST else replace(run, scans=scans)


def are_tests(runs: Sequence[RunFolder]) -> bool:
    """Whether runs hold test scans only, which the models of all folds predict."""
    return all((run.scans["split"] == TEST).all() for run in runs)


def together(runs: Sequence[RunFolder]) -> RunFolder:
    """The first of several folds of one method and seed, with each test scan's mean score over all of them."""
    scans = joined(run.scans for run in runs)
    perfect = {column: metric_info(runs[0].summary, column).perfect for column in metric_columns(scans)}
    averaged = mean_over_folds(scans, perfect)
    return replace(runs[0], scans=averaged.assign(fold=pd.Series(pd.NA, averaged.index, dtype="Int64")))
