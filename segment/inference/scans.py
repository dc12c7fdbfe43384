"""Writes the masks of scans, with a record of how they were made."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segment import provenance
from segment.errors import UserError
from segment.files import file_sha256, write_json
from segment.inference.inputs import Scan
from segment.inference.model import Model, predictor_of
from segment.inference.predictor import Prepared
from segment.inference.settings import Settings
from segment.io.content import hash_scans
from segment.io.images import write_label
from segment.parallel import overlapped


def predict_scans(
    model: Model,
    scans: Sequence[Scan],
    output: Path,
    settings: Settings,
    advance: Callable[[str], None] = lambda name: None,
    command: Sequence[str] = (),
    write_file: Callable[[Path, np.ndarray, Path], None] = write_label,
) -> dict[str, str]:
    """Write the mask of each scan on its own grid, then ``predictions.json``: how they were made.

    A scan that cannot be predicted, such as a damaged file, does not stop the others.

    The record names the model and the hash of its weights, the windows and the precision that were used and those of
    the model's scores, and of each scan its image files, their hashes and the seconds that the network took. The next
    scan is read and the last mask is written meanwhile.

    Args:
        model: From `segment.inference.model.load_model`.
        scans: From `segment.inference.inputs.find_scans`.
        output: Folder of the masks; created if missing.
        settings: Prediction settings.
        advance: Called with a mask's name once its scan is done.
        command: Arguments of ``segment``; by default those of this process.
        write_file: Writes a mask to a file, given a file of its scan.

    Returns:
        Name of the mask to the reason, for each scan that could not be predicted. If none could, nothing is written.
    """
    started = time.time()
    predictor = predictor_of(model, settings.windows, settings.device, settings.precision, settings.engine)
    output.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {}
    failed: dict[str, str] = {}

    def read(scan: Scan) -> Prepared | None:
        with _noted(scan, failed):
            prepared = predictor.read(scan[1])
            images = [file.absolute() for file in scan[1]]
            made[scan[0]] = {"images": [*map(str, images)], "sha256": hash_scans(images)}
            return prepared
        return None

    def predict(scan: Scan, prepared: Prepared | None) -> np.ndarray | None:
        name, files = scan
        if prepared is None:
            return None
        with _noted(scan, failed):
            began = time.perf_counter()
            mask = model.labels.decode(predictor.predict_read(files, prepared))
            made[name]["seconds"] = round(time.perf_counter() - began, 3)
            return mask
        return None

    def write(scan: Scan, mask: np.ndarray | None) -> None:
        if mask is not None:
            with _noted(scan, failed):
                write_file(output / scan[0], mask, scan[1][0])

    for name, _ in overlapped(read, predict, write, scans):
        advance(name)
    failed = {name: failed[name] for name, _ in scans if name in failed}
    if len(failed) == len(scans):
        return failed
    record = {
        "model": [_described(member) for member in model.members] or _described(model),
        "dataset": model.dataset,
        "labels": model.labels.declared,
        "scored": settings.scored,
        "predicted": settings.used,
        "device": settings.device.type,
        "notes": settings.notes,
        "scans": {name: how for name, how in made.items() if name not in failed},
        "failed": failed,
        "provenance": provenance.collect(0, started, command),
    }
    write_json(output / "predictions.json", record)
    return failed


@contextlib.contextmanager
def _noted(scan: Scan, failed: dict[str, str]) -> Iterator[None]:
    """Note why a scan cannot be predicted, in place of stopping."""
    try:
        yield
    except UserError as error:
        failed[scan[0]] = str(error)


def _described(model: Model) -> dict[str, str] | None:
    """Folder of a model, and file and hash of its weights; None for a network that was not loaded."""
    if model.folder is None:
        return None
    weights = model.weights or model.folder / "weights.safetensors"
    return {
        "folder": str(model.folder.absolute()),
        "weights": str(weights.absolute()),
        "sha256": file_sha256(weights),
    }
