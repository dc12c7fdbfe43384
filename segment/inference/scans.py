"""Writes the masks of scans, with a record of how they were made."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segment import provenance
from segment.data.labels import Labels
from segment.files import file_sha256, hash_files, write_json
from segment.inference.held import held
from segment.inference.inputs import PROBABILITIES, UNCERTAINTY, Scan
from segment.inference.model import Model
from segment.inference.settings import Settings
from segment.inference.several import predictor_with
from segment.inference.uncertainty import uncertainty
from segment.io.formats import stem
from segment.io.fractions import write_fractions
from segment.io.images import read_grid, write_label
from segment.parallel import overlapped


def predict_scans(
    model: Model,
    scans: Sequence[Scan],
    output: Path,
    settings: Settings,
    advance: Callable[[str], None] = lambda name: None,
    command: Sequence[str] = (),
    maps: Collection[str] = (),
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
        maps: What to write beside the masks, each in a folder of its name, along a fourth axis: ``probabilities`` of
            every label or region, and ``uncertainty``, the maps of `segment.inference.uncertainty.uncertainty`.

    Raises:
        UserError: When a scan cannot be read or predicted.
    """
    started = time.time()
    predictor = predictor_with(model, settings)
    output.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {}

    def read(scan: Scan) -> Any:
        images = [file.absolute() for file in scan[1]]
        made[scan[0]] = {"images": [*map(str, images)], "sha256": hash_files(images)}
        return predictor.read(scan[1])

    def predict(scan: Scan, prepared: Any) -> tuple[np.ndarray, np.ndarray | None]:
        name, files = scan
        began = time.perf_counter()
        kept = None
        if maps:
            shape, kind = read_grid(files[0]).shape, np.float32 if model.groups else np.float16
            kept = held((model.labels.outputs + (UNCERTAINTY in maps), *shape), kind, output)
        mask = model.labels.decode(predictor.predict_read(files, prepared, kept=kept))
        made[name]["seconds"] = round(time.perf_counter() - began, 3)
        return mask, kept

    def write(scan: Scan, result: tuple[np.ndarray, np.ndarray | None]) -> None:
        mask, kept = result
        if kept is not None:
            _write_maps(output, scan, kept, model.labels, maps)
        write_label(output / scan[0], mask, like=scan[1][0])

    for name, _ in overlapped(read, predict, write, scans):
        advance(name)
    record = {
        "model": [_described(member) for member in model.members] or _described(model),
        "dataset": model.dataset,
        "labels": model.labels.declared,
        "scored": [part.scored for part in settings.parts] or settings.scored,
        "predicted": [part.used for part in settings.parts] or settings.used,
        "device": settings.device.type,
        "notes": settings.notes,
        **({PROBABILITIES: list(model.labels.regions or model.labels)} if PROBABILITIES in maps else {}),
        "scans": made,
        "provenance": provenance.collect(0, started, command),
    }
    write_json(output / "predictions.json", record)


def _write_maps(output: Path, scan: Scan, kept: np.ndarray, labels: Labels, maps: Collection[str]) -> None:
    """Write maps of a scan from what `segment.inference.predictor.Predictor.mask` has kept of it."""
    name, grid = f"{stem(Path(scan[0]))}.nii.gz", read_grid(scan[1][0])
    volumes = kept[:, None] if kept.ndim == 3 else kept
    if PROBABILITIES in maps:
        write_fractions(output / PROBABILITIES / name, volumes[: labels.outputs], grid)
    if UNCERTAINTY in maps:
        found = np.empty((2, *volumes.shape[1:]), np.float16)
        for index in range(volumes.shape[1]):
            found[:, index] = uncertainty(volumes[:, index], bool(labels.regions))
        write_fractions(output / UNCERTAINTY / name, found, grid)


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
