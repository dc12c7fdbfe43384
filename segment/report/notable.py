"""Selects the scans of a run to look at: the worst ones and the median one."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from segment.errors import UserError
from segment.metrics.standard import LEAD
from segment.runs.folder import RunFolder
from segment.runs.scans import parted
from segment.runs.summary import scan_scores
from segment.runs.voxels import ScanVoxels, read_voxels
from segment.text import printable
from segment.visual.pictures import panel

_log = logging.getLogger(__name__)


_WORST = ("worst", "second worst", "third worst")


@dataclass(frozen=True)
class NotableCase:
    """A scan to look at.

    Attributes:
        kind: ``worst``, ``second worst``, ``third worst`` or ``median``.
        case: Id of the scan.
        score: Its foreground score by `LEAD` (mean over labels).
    """

    kind: str
    case: str
    score: float


@dataclass(frozen=True)
class NotableScan(NotableCase):
    """A scan with its picture.

    Attributes:
        picture: uint8 ``(H, W, 3)``: image, reference and prediction.
        voxels: The voxels of the scan.
    """

    picture: np.ndarray
    voxels: ScanVoxels


def notable_cases(run: RunFolder, worst: int = 1) -> list[NotableCase]:
    """Find the worst scans of a run and its median scan, test scans aside, by the foreground score of `LEAD`.

    Args:
        run: A finished run.
        worst: Number of worst scans, at most three.

    Returns:
        The worst scans that rank below the median, worst first; then the median scan (the worse of two middle ones),
        which is called ``worst`` if it is the only one.
    """
    ordered = scan_scores(parted(run.scans)[0], LEAD)
    middle = (len(ordered) - 1) // 2
    if ordered.empty:
        return []
    places = [*zip(_WORST[:worst], range(middle), strict=False), ("median" if middle else "worst", middle)]
    return [NotableCase(kind, str(ordered.index[place]), float(ordered.iloc[place])) for kind, place in places]


def notable_scans(run: RunFolder) -> list[NotableScan]:
    """Draw the worst scan of a run and its median scan, by the foreground score of `LEAD`.

    Args:
        run: A finished run, as for `read_voxels`.

    Returns:
        The worst scan, then the median one. A scan whose image, reference or prediction is missing or cannot be read is
        left out, and a warning is logged.
    """
    found = []
    for notable in notable_cases(run):
        try:
            scan = read_voxels(run, notable.case)
        except (UserError, ValueError) as error:
            warn_not_shown(notable, error)
            continue
        picture = panel(scan.image, scan.reference, scan.prediction, scan.n_classes, scan.grid.spacing)
        found.append(NotableScan(notable.kind, notable.case, notable.score, picture, scan))
    return found


def warn_not_shown(notable: NotableCase, error: Exception) -> None:
    """Log why a scan is not shown."""
    _log.warning("No picture of the %s scan %s: %s", notable.kind, printable(notable.case), printable(error))
