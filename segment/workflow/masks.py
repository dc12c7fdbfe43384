"""The masks of finished runs beside their references, and their scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.data.case import Case, Dataset
from segment.data.layouts.common import image_files
from segment.errors import UserError
from segment.evaluation.score import Change, Pair, score_pairs
from segment.io.formats import stem
from segment.metrics.metric import Metric
from segment.runs.columns import TEST
from segment.runs.folder import RunFolder
from segment.runs.scans import joined
from segment.runs.summary import POSTPROCESSING

UNPROCESSED = "unprocessed"
"""Folder in predictions/ with the masks as they were predicted, if post-processing changed them."""


def masks_folder(run: RunFolder, split: str, unprocessed: bool = False) -> Path:
    """The folder of a run's masks.

    Args:
        run: A finished run.
        split: Of the scans.
        unprocessed: Whether masks before post-processing are meant.
    """
    folder = run.path / "predictions"
    if unprocessed and (run.summary.get(POSTPROCESSING) or {}).get("steps"):
        folder /= UNPROCESSED
    return folder / TEST if split == TEST else folder


def mask_pairs(
    dataset: Dataset, run: RunFolder, split: str, cases: Iterable[str], unprocessed: bool = False
) -> list[Pair]:
    """The masks of some scans and their references.

    Args:
        dataset: The run's data set.
        run: A finished run.
        split: Of the scans.
        cases: Their ids.
        unprocessed: Whether masks before post-processing are meant.

    Raises:
        UserError: When a mask or a reference is missing.
    """
    known = {case.id: case for case in (dataset.test_cases if split == TEST else dataset.cases)}
    masks = {stem(file): file for file in image_files(masks_folder(run, split, unprocessed))}
    return [(name, *_files(name, masks, known)) for name in cases]


def scored_masks(
    dataset: Dataset,
    run: RunFolder,
    metrics: Sequence[Metric],
    unprocessed: bool = False,
    change: Change | None = None,
    confusion: np.ndarray | None = None,
) -> pd.DataFrame:
    """Score all masks of a run, test scans included.

    Args:
        dataset: The run's data set.
        run: A finished run.
        metrics: Metrics besides the standard ones.
        unprocessed: Whether masks before post-processing are meant.
        change: Post-processing of the masks.
        confusion: As for `score_pairs`; only scans that are no test scans are counted.

    Raises:
        UserError: When a mask or a reference is missing, or cannot be scored.
    """
    tables = []
    for (split, fold), rows in run.scans.groupby(["split", "fold"], sort=False):
        pairs = mask_pairs(dataset, run, str(split), rows["case"].unique(), unprocessed)
        options: dict[str, Any] = {"groups": dataset.groups(), "tolerance": dataset.tolerance, "change": change}
        counted = None if split == TEST else confusion
        tables.append(score_pairs(pairs, dataset.labels, split, int(fold), metrics, confusion=counted, **options))
    return joined(tables)


def _files(name: str, masks: dict[str, Path], cases: dict[str, Case]) -> tuple[Path, Path]:
    """The mask and the reference of a scan."""
    case = cases.get(name)
    if case is None or case.label is None or name not in masks:
        lacks = "predictions/ has no mask" if name not in masks else "the data set has no reference"
        raise UserError(f"The finished run cannot be scored again, since {lacks} of its scan {name!r}.")
    return masks[name], case.label
