"""A finished run as its files tell it: table of scans, summary, configuration, and the scans worth looking at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segment.data.formats import is_image_file, stem
from segment.data.geometry import Grid, canonical_grid, to_canonical
from segment.data.images import read_image, read_label
from segment.data.labels import IGNORE, Labels
from segment.errors import UserError
from segment.report.files import printable, read_mapping
from segment.report.pictures import panel
from segment.report.scans import read_scans
from segment.report.summary import read_summary, scan_scores

_log = logging.getLogger(__name__)
_WORST = ("worst", "second worst", "third worst")


@dataclass(frozen=True)
class RunFolder:
    """What the files of a finished run hold.

    Attributes:
        path: The run folder.
        scans: Table of scans, from ``scans.csv``.
        summary: Content of ``summary.json``.
        config: Content of ``config.yaml``.
        provenance: Content of ``provenance.json``; empty when there is none (scores of masks made elsewhere).
    """

    path: Path
    scans: pd.DataFrame
    summary: Mapping[str, Any]
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class NotableCase:
    """A scan that is worth looking at.

    Attributes:
        kind: ``worst``, ``second worst``, ``third worst`` or ``median``.
        case: Id of the scan.
        dice: Its foreground Dice (mean over labels).
    """

    kind: str
    case: str
    dice: float


@dataclass(frozen=True)
class NotableScan(NotableCase):
    """A scan that is shown as a picture.

    Attributes:
        picture: uint8 ``(H, W, 3)``: image, reference and prediction.
        voxels: What it was drawn from.
    """

    picture: np.ndarray
    voxels: ScanVoxels


@dataclass(frozen=True, eq=False)
class ScanVoxels:
    """Image and masks of one scan in canonical axes (z inferior to superior, y posterior to anterior, x left to right).

    Attributes:
        image: float32 ``(C, z, y, x)`` or ``(C, y, x)``.
        reference: Class indices ``(z, y, x)`` or ``(y, x)``; voxels that nobody annotated count as background.
        prediction: Class indices of the same shape.
        grid: Where these voxels lie.
        n_classes: Number of classes, background included.
    """

    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    grid: Grid
    n_classes: int


def read_run(path: Path) -> RunFolder:
    """Read the files of a finished run.

    Args:
        path: The run folder.

    Returns:
        What its files hold.

    Raises:
        UserError: ``scans.csv``, ``summary.json`` or ``config.yaml`` is missing, or one of the files is damaged.
    """
    provenance = path / "provenance.json"
    return RunFolder(
        path=path,
        scans=read_scans(path / "scans.csv"),
        summary=read_summary(path / "summary.json"),
        config=read_mapping(path / "config.yaml"),
        provenance=read_mapping(provenance) if provenance.exists() else {},
    )


def notable_cases(run: RunFolder, worst: int = 1) -> list[NotableCase]:
    """Name the worst scans of a run and its median one, by foreground Dice.

    Args:
        run: A finished run.
        worst: How many of the worst scans, at most three.

    Returns:
        The worst ones, the worst first, as far as they are worse than the median; then the median one (of two middle
        ones the worse), which is called ``worst`` where it is the only one.
    """
    ordered = scan_scores(run.scans)
    middle = (len(ordered) - 1) // 2
    if ordered.empty:
        return []
    places = [*zip(_WORST[:worst], range(middle), strict=False), ("median" if middle else "worst", middle)]
    return [NotableCase(kind, str(ordered.index[place]), float(ordered.iloc[place])) for kind, place in places]


def notable_scans(run: RunFolder) -> list[NotableScan]:
    """Draw the worst scan of a run and its median one, by foreground Dice.

    Args:
        run: A finished run, as `read_voxels` needs it.

    Returns:
        The worst scan, then the median one. A scan whose source image, reference or prediction is not there or cannot
        be read any more is left out, and a warning is logged.
    """
    found = []
    for notable in notable_cases(run):
        try:
            scan = read_voxels(run, notable.case)
        except (UserError, ValueError) as error:
            warn_of(notable, error)
            continue
        picture = panel(scan.image, scan.reference, scan.prediction, scan.n_classes, scan.grid.spacing)
        found.append(NotableScan(notable.kind, notable.case, notable.dice, picture, scan))
    return found


def warn_of(notable: NotableCase, error: Exception) -> None:
    """Log why a scan is not shown."""
    _log.warning("No picture of the %s scan %s: %s", notable.kind, printable(notable.case), printable(error))


def read_voxels(run: RunFolder, case: str) -> ScanVoxels:
    """Read image, reference and prediction of one scan.

    Args:
        run: A finished run; provenance names the source files of its scans under ``cases`` and the values of its labels
            under ``labels``, predictions lie in ``predictions/``.
        case: Id of the scan.

    Returns:
        Its voxels in canonical axes.

    Raises:
        UserError: A file is not named, not there, cannot be read or does not lie on the grid of the others.
        ValueError: A mask holds a value that is no label.
    """
    cases = run.provenance.get("cases")
    sources = cases.get(case) if isinstance(cases, dict) else None
    images, label = (sources.get("images"), sources.get("label")) if isinstance(sources, dict) else (None, None)
    files = [file for file in images if isinstance(file, str)] if isinstance(images, list) else []
    if not files or not isinstance(label, str):
        raise UserError("provenance.json does not name its image and label files.")
    labels = _labels(run)
    image, reference = read_image([Path(file) for file in files]), read_label(Path(label))
    prediction = read_label(_prediction(run.path / "predictions", case))
    if not image.array.shape[1:] == reference.array.shape == prediction.array.shape:
        raise UserError("its image, reference and prediction differ in shape.")
    masks = [to_canonical(_known(labels.encode(mask.array)), reference.grid) for mask in (reference, prediction)]
    anatomical = to_canonical(image.array, image.grid)
    return ScanVoxels(anatomical, masks[0], masks[1], canonical_grid(image.grid), len(labels))


def _labels(run: RunFolder) -> Labels:
    """The labels of a run, from its provenance."""
    try:
        return Labels(run.provenance["labels"], run.provenance.get("region_order"))
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise UserError(f"provenance.json does not hold the labels ({error}).") from error


def _known(classes: np.ndarray) -> np.ndarray:
    """Voxels that nobody annotated are drawn as background."""
    return np.where(classes == IGNORE, 0, classes)


def _prediction(folder: Path, case: str) -> Path:
    """The mask of a scan, found by its name among the files that are there: an id cannot point out of the folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    for file in files:
        if is_image_file(file) and stem(file) == case:
            return file
    raise UserError(f"{folder} holds no prediction of it.")
