"""Learning curves of a run, read from the event files that training wrote for TensorBoard."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path

import pandas as pd
from google.protobuf.message import DecodeError
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

from segment.report.files import printable

_log = logging.getLogger(__name__)
_KEPT = {SCALARS: 2000, "tensors": 2000, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1}
_LARGEST = 1 << 28  # bytes of an event file
_HEADER, _FOOTER = struct.Struct("<Q4x"), 4  # TFRecord: length, its checksum, the record, its checksum


def read_curves(folder: Path, tags: list[str]) -> dict[str, pd.Series]:
    """Read scalars over the course of training.

    At most 2,000 points of each are kept. Where a resumed run wrote a step again, the later file counts.

    Args:
        folder: ``tensorboard/`` of a run.
        tags: Names of the scalars, e.g. ``train/loss``.

    Returns:
        Tag to values (float64, finite) by step, ascending; tags that no file holds are left out. A file that cannot be
        read is passed over with a warning.
    """
    parts: dict[str, list[pd.Series]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        if file.is_symlink() or not _is_sound(file):
            _log.warning("No curves from %s: it is no event file, or a damaged or very large one.", printable(file))
            continue
        events = EventAccumulator(str(file), size_guidance=_KEPT)
        try:
            events.Reload()
        except (DecodeError, ValueError, TypeError, LookupError, AttributeError) as error:
            _log.warning("No more curves from %s: %s", printable(file), printable(error))
        for tag in set(tags).intersection(events.Tags()[SCALARS]):
            points = events.Scalars(tag)
            steps = [point.step for point in points]
            parts.setdefault(tag, []).append(pd.Series([point.value for point in points], index=steps, dtype=float))
    curves = {}
    for tag in tags:
        if tag in parts:
            whole = pd.concat(parts[tag])
            whole = whole[~whole.index.duplicated(keep="last")].sort_index()
            curves[tag] = whole[whole.abs() < float("inf")]
    return {tag: curve for tag, curve in curves.items() if len(curve)}


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
