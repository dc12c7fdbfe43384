"""Writes the masks of scans, with a record of how they were made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segment import provenance
from segment.files import file_sha256, hash_files, write_json
from segment.inference.inputs import Scan
from segment.inference.model import Model, predictor_of
from segment.inference.predictor import Prepared
from segment.inference.settings import Settings
from segment.io.images import write_label
from segment.parallel import overlapped


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
    the model's scores, and of each scan its image files, their hashes and the seconds that the network took. The next
    scan is read and the last mask is written meanwhile.

    Args:
        model: From `segment.inference.model.load_model`.
        scans: From `segment.inference.inputs.find_scans`.
        output: Folder of the masks; created if missing.
        settings: Prediction settings.
        advance: Called with a mask's name once it is written.
        command: Arguments of ``segment``; by default those of this process.

    Raises:
        UserError: When a scan cannot be read or predicted.
    """
    started = time.time()
    predictor = predictor_of(
        model, settings.windows, settings.device, settings.precision, settings.engine, settings.steps
    )
    output.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {}

    def read(scan: Scan) -> Prepared:
        images = [file.absolute() for file in scan[1]]
        made[scan[0]] = {"images": [*map(str, images)], "sha256": hash_files(images)}
        return predictor.read(scan[1])

    def predict(scan: Scan, prepared: Prepared) -> np.ndarray:
        name, files = scan
        began = time.perf_counter()
        mask = model.labels.decode(predictor.predict_read(files, prepared))
        made[name]["seconds"] = round(time.perf_counter() - began, 3)
        return mask

    def write(scan: Scan, mask: np.ndarray) -> None:
        write_label(output / scan[0], mask, like=scan[1][0])

    for name, _ in overlapped(read, predict, write, scans):
        advance(name)
    record = {
        "model": [_described(member) for member in model.members] or _described(model),
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
