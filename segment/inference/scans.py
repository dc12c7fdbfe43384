"""Find the scans of a folder, and write their masks with a record of how they were made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from segment import provenance
from segment.data.layouts.common import image_files, split_channel
from segment.errors import UserError
from segment.files import file_sha256, hash_files, write_json
from segment.inference.model import Model, predictor_of
from segment.inference.settings import Settings
from segment.io.formats import is_image_file, listed, stem, suffix
from segment.io.images import write_label

Scan = tuple[str, list[Path]]
"""Name of the mask file, and the scan's image files in channel order."""


def predict_scans(
    model: Model,
    scans: Sequence[Scan],
    output: Path,
    settings: Settings,
    advance: Callable[[str], None] = lambda name: None,
    command: Sequence[str] = (),
) -> None:
    """Write the mask of each scan on its own grid, then ``predictions.json``: how they were made.

    The record names the model and the hash of its weights, the windows and the precision that were used and those of
    the model's scores, and of each scan its image files, their hashes and the seconds that it took.

    Args:
        model: From `segment.inference.model.load_model`.
        scans: From `find_scans`.
        output: Folder of the masks; created if missing.
        settings: Prediction settings.
        advance: Called with a mask's name once it is written.
        command: Arguments of ``segment``; by default those of this process.

    Raises:
        UserError: When a mask would replace an input, or a scan cannot be read or predicted.
    """
    started = time.time()
    predictor = predictor_of(model, settings.windows, settings.device, settings.precision)
    inputs = {file.resolve() for _, files in scans for file in files}
    for name, _ in scans:
        if (output / name).resolve() in inputs:
            raise UserError(f"output={output}: the mask {name} would overwrite an input. Give another folder.")
    output.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {}
    for name, files in scans:
        began = time.perf_counter()
        write_label(output / name, model.labels.decode(predictor.predict_files(files).mask), like=files[0])
        seconds = round(time.perf_counter() - began, 3)
        images = [file.absolute() for file in files]
        made[name] = {"images": [*map(str, images)], "sha256": hash_files(images), "seconds": seconds}
        advance(name)
    weights = model.folder / "weights.safetensors" if model.folder else None
    record = {
        "model": {"folder": str(weights.parent.absolute()), "sha256": file_sha256(weights)} if weights else None,
        "dataset": model.dataset,
        "labels": model.labels.declared,
        "scored": settings.scored,
        "predicted": settings.used,
        "device": settings.device.type,
        "notes": settings.notes,
        "scans": made,
        "provenance": provenance.collect(0, started, command),
    }
    write_json(output / "predictions.json", record)


def find_scans(source: Path, channels: int) -> Iterator[Scan]:
    """Find the scans in a file or folder.

    Args:
        source: An image file or a folder of them. Files NAME_0000, NAME_0001, ... are the channels of one scan.
        channels: Channels of the model; decides whether a single four-digit ending is a channel number.

    Yields:
        (name of the mask file, the scan's image files in channel order).

    Raises:
        UserError: When the file does not exist, the folder has no image, or a scan lacks a channel.
    """
    if not source.exists():
        raise UserError(f"input={source}: there is no such file or folder.")
    if source.is_file() and not is_image_file(source):
        raise UserError(f"input={source}: is not an image file. Formats read: {listed()}.")
    files = [source] if source.is_file() else image_files(source)
    if not files:
        raise UserError(f"input={source}: has no image file. Formats read: {listed()}.")
    for (name, end), members in groupby(sorted(files, key=_scan_key), key=_scan_key):
        group = list(members)
        numbers = [split_channel(stem(file))[1] for file in group]
        if numbers == [None] or (numbers[0] is not None and numbers == list(range(channels))):
            yield f"{name}{end}", group
        elif len(group) == 1 and channels == 1:
            # A single scan whose name happens to end in four digits.
            yield group[0].name, group
        else:
            raise UserError(
                f"{group[0]}: the scan {name!r} has the channels {numbers}, but the model needs 0 to {channels - 1}. "
                "Give exactly one file per channel of the model."
            )


def _scan_key(file: Path) -> tuple[str, str]:
    return split_channel(stem(file))[0], suffix(file)
