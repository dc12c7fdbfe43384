"""Methods to be compared: finished runs, read from their folders, grouped by configuration, paired scan by scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segment.report.folder import RunFolder


@dataclass(frozen=True, eq=False)
class Method:
    """One method: a run, or the folds and seeds of one configuration laid together.

    Attributes:
        name: Short, printable, unlike those of the others.
        runs: The runs it consists of. ``config``, ``provenance`` and ``summary`` are empty where there is no such file
            (scores of masks made elsewhere).
        scores: Float64 ``(scans, labels)`` of the metric, seeds averaged; index (split, case) in the same order for all
            methods, columns the names of the labels in the order of their numbers; NaN where a scan has no score.
        repeats: The same for every seed, of which `scores` is the mean.
        scan_folds: Integer ``(scans,)``: fold that each scan was scored in, -1 for none.
        seeds: Number of seeds.
        folds: The folds, ascending; empty where there are none.
        cost: Mean over its runs of what ``summary.json`` says of the training; keys that one of them lacks are left
            out. ``energy_source`` is ``measured`` only if it is for all of them.
    """

    name: str
    runs: tuple[RunFolder, ...]
    scores: pd.DataFrame
    repeats: tuple[pd.DataFrame, ...]
    scan_folds: np.ndarray
    seeds: int
    folds: tuple[int, ...]
    cost: Mapping[str, float | str]
