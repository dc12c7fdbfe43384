"""Reads the learning curves of a run from its logs: TensorBoard event files or CSV tables."""

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

from segment.metrics.standard import LEAD
from segment.text import printable

_log = logging.getLogger(__name__)
LOSS = "train/loss"
"""Name of the training loss."""
VALIDATION_LOSS = "val/loss"
"""Name of the loss of the validation scans."""

_KEPT = {SCALARS: 2000, "tensors": 2000, "images": 1, "audio": 1, "histograms": 1, "compressedHistograms": 1}
_LARGEST = 1 << 28  # bytes of an event file
_HEADER, _FOOTER = struct.Struct("<Q4x"), 4  # TFRecord: length, its checksum, the record, its checksum


def read_curves(folder: Path, tags: list[str], whole: bool = False) -> dict[str, pd.Series]:
    """Read scalars logged during training.

    If a resumed run continues from an earlier step, the later file takes precedence from there.

    Args:
        folder: ``tensorboard/`` of a run.
        tags: Names of the scalars as they were logged, e.g. ``train/loss``; a file may hold them under this name or
            under that of `board_tag`.
        whole: Return every point, including non-finite values; otherwise at most 2,000 finite points per scalar.

    Returns:
        Tag to values (float64) indexed by ascending step; tags that no file contains are left out. A file that cannot
        be read is skipped with a warning.
    """
    parts: dict[str, list[pd.Series]] = {}
    written = {name: tag for tag in tags for name in (tag, board_tag(tag))}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        if file.is_symlink() or not _is_valid(file):
            _log.warning("No curves from %s: it is not an event file, is damaged or is too large.", printable(file))
            continue
        events = EventAccumulator(str(file), size_guidance=_KEPT | ({SCALARS: 0} if whole else {}))
        try:
            events.Reload()
        except (DecodeError, ValueError, TypeError, LookupError, AttributeError) as error:
            _log.warning("No more curves from %s: %s", printable(file), printable(error))
        for name in written.keys() & set(events.Tags()[SCALARS]):
            points, tag = events.Scalars(name), written[name]
            steps = [point.step for point in points]
            parts.setdefault(tag, []).append(pd.Series([point.value for point in points], index=steps, dtype=float))
    curves = {tag: _joined(parts[tag]) for tag in tags if tag in parts}
    if not whole:
        curves = {tag: curve[curve.abs() < math.inf] for tag, curve in curves.items()}
    return {tag: curve for tag, curve in curves.items() if len(curve)}


def board_tag(tag: str) -> str:
    """The name under which TensorBoard shows a scalar.

    TensorBoard sorts names by their letters, capitals first, opens on the first two groups, and its table of runs on
    the first five names: Dice of the foreground, Dice of every label, the losses.

    Args:
        tag: Name of the scalar as it is logged.

    Returns:
        ``Dice``, ``Dice/LABEL``, ``Loss/train``, ``Loss/val``, ``Metrics/NAME_METRIC``; other names stay.
    """
    part, _, name = tag.partition("/")
    if tag in (LOSS, VALIDATION_LOSS):
        return f"Loss/{part}"
    if part != "val":
        return tag
    label = name.removesuffix(f"_{LEAD.name}")
    if label == name:
        return f"Metrics/{name}"
    return LEAD.title if label == "foreground" else f"{LEAD.title}/{label}"


def loss_curve(run: Path) -> pd.Series:
    """The logged training loss of a run, including non-finite values.

    Args:
        run: A run folder.

    Returns:
        Values indexed by ascending step, from ``tensorboard/``, else from the tables of ``logger=csv``; empty if
        neither contains the loss.
    """
    curve = read_curves(run / "tensorboard", [LOSS], whole=True).get(LOSS)
    return _joined(_tables(run / "csv")) if curve is None else curve


def _joined(parts: Sequence[pd.Series]) -> pd.Series:
    """Joins the curves of several files, given in the order in which they were written."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return pd.Series(dtype=float)
    curve = filled[0]
    for part in filled[1:]:
        # A resumed run replaces everything from its first step on, even if it logs at other steps than before.
        curve = pd.concat([curve[curve.index < part.index.min()], part])
    return curve[~curve.index.duplicated(keep="last")].sort_index()


def _tables(folder: Path) -> list[pd.Series]:
    """The loss in each table that Lightning's CSVLogger wrote, by version."""
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
                    if row.get(LOSS):  # a row holds only some of the metrics
                        points[int(row["step"])] = float(row[LOSS])
        except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
            _log.warning("No more curves from %s: %s", printable(file), printable(error))
        found.append(pd.Series(points, dtype=float))
    return found


def _is_valid(file: Path) -> bool:
    """Whether all record lengths are plausible: the reader would allocate memory for any length."""
    if file.stat().st_size > _LARGEST:
        return False
    with file.open("rb") as stream:
        while len(header := stream.read(_HEADER.size)) == _HEADER.size:
            (length,) = _HEADER.unpack(header)
            if length > _LARGEST:
                return False
            stream.seek(length + _FOOTER, os.SEEK_CUR)
    return True
