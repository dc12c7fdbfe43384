"""Learning curves of a run, read from what training logged: event files of TensorBoard, or tables of numbers."""

from __future__ import annotations

import csv
import logging
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from segment.text import printable

_log = logging.getLogger(__name__)
LOSS = "train/loss"
"""Tag of the training loss."""

_KEPT = {SCALARS: 2000, "tensors": 2000, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1}
_LARGEST = 1 << 28  # bytes of an event file
_HEADER, _FOOTER = struct.Struct("<Q4x"), 4  # TFRecord: length, its checksum, the record, its checksum


def read_curves(folder: Path, tags: list[str], whole: bool = False) -> dict[str, pd.Series]:
    """Read scalars over the course of training.

    Where a resumed run goes on from an earlier step, the later file counts from there.

    Args:
        folder: ``tensorboard/`` of a run.
        tags: Names of the scalars, e.g. ``train/loss``.
        whole: Every point, also those whose value is not finite; else at most 2,000 finite ones of each.

    Returns:
        Tag to values (float64) by step, ascending; tags that no file holds are left out. A file that cannot be read is
        passed over with a warning.
    """
    parts: dict[str, list[pd.Series]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        if file.is_symlink() or not _is_sound(file):
            _log.warning("No curves from %s: it is no event file, or a damaged or very large one.", printable(file))
            continue
        events = EventAccumulator(str(file), size_guidance=_KEPT | ({SCALARS: 0} if whole else {}))
        try:
            events.Reload()
        except (DecodeError, ValueError, TypeError, LookupError, AttributeError) as error:
            _log.warning("No more curves from %s: %s", printable(file), printable(error))
        for tag in set(tags).intersection(events.Tags()[SCALARS]):
            points = events.Scalars(tag)
            steps = [point.step for point in points]
            parts.setdefault(tag, []).append(pd.Series([point.value for point in points], index=steps, dtype=float))
    curves = {tag: _joined(parts[tag]) for tag in tags if tag in parts}
    if not whole:
        curves = {tag: curve[curve.abs() < math.inf] for tag, curve in curves.items()}
    return {tag: curve for tag, curve in curves.items() if len(curve)}


def loss_curve(run: Path) -> pd.Series:
    """The training loss of a run as it was logged, also where it is not finite.

    Args:
        run: A run folder.

    Returns:
        Values by step, ascending, from ``tensorboard/``, else from the tables of ``logger=csv``; empty where neither
        holds it.
    """
    curve = read_curves(run / "tensorboard", [LOSS], whole=True).get(LOSS)
    return _joined(_tables(run / "csv")) if curve is None else curve


def _joined(parts: Sequence[pd.Series]) -> pd.Series:
    """One curve of those of several files, in the order in which they were written."""
    told = [part for part in parts if len(part)]
    if not told:
        return pd.Series(dtype=float)
    curve = told[0]
    for part in told[1:]:
        # A resumed run takes nothing over from where it goes on, also where it logs at other steps than before.
        curve = pd.concat([curve[curve.index < part.index.min()], part])
    return curve[~curve.index.duplicated(keep="last")].sort_index()


def _tables(folder: Path) -> list[pd.Series]:
    """The loss in each table that Lightning's CSVLogger wrote, in their order."""
    versions = [path for path in folder.glob("version_*") if path.name[8:].isdecimal()]
    found = []
    for version in sorted(versions, key=lambda path: int(path.name[8:])):
        file = version / "metrics.csv"
        points: dict[int, float] = {}
        if file.is_symlink() or not file.is_file():
            continue
        try:
            with file.open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream):
                    if row.get(LOSS):  # a row tells some of the metrics only
                        points[int(row["step"])] = float(row[LOSS])
        except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
            _log.warning("No more curves from %s: %s", printable(file), printable(error))
        found.append(pd.Series(points, dtype=float))
    return found


def _is_sound(file: Path) -> bool:
    """Whether no record claims more than a file may hold: the reader would ask for the memory of any length."""
    if file.stat().st_size > _LARGEST:
        return False
    with file.open("rb") as stream:
        while len(header := stream.read(_HEADER.size)) == _HEADER.size:
            (length,) = _HEADER.unpack(header)
            if length > _LARGEST:
                return False
            stream.seek(length + _FOOTER, os.SEEK_CUR)
    return True
