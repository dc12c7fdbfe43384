"""Writes the masks of scans, with a record of how they were made."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segment import provenance
from segment.data.labels import Labels
from segment.errors import UserError
from segment.files import file_sha256, write_json
from segment.inference.held import held
from segment.inference.inputs import PROBABILITIES, UNCERTAINTY, Scan
from segment.inference.model import Model
from segment.inference.settings import Settings
from segment.inference.several import predictor_with
from segment.inference.uncertainty import uncertainty
from segment.io.content import hash_scans
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
    write_file: Callable[[Path, np.ndarray, Path], None] = write_label,
    maps: Collection[str] = (),
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
        maps: What to write beside the masks, each in a folder of its name, along a fourth axis: ``probabilities`` of
            every label or region, and ``uncertainty``, the maps of `segment.inference.uncertainty.uncertainty`.

    Returns:
        Name of the mask to the reason, for each scan that could not be predicted. If none could, nothing is written.
    """
    started = time.time()
    predictor = predictor_with(model, settings)
    output.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {}
    failed: dict[str, str] = {}

    def read(scan: Scan) -> Any:
        with _noted(scan, failed):
            prepared = predictor.read(scan[1])
            images = [file.absolute() for file in scan[1]]
            made[scan[0]] = {"images": [*map(str, images)], "sha256": hash_scans(images)}
            return prepared
        return None

    def predict(scan: Scan, prepared: Any) -> tuple[np.ndarray, np.ndarray | None] | None:
        name, files = scan
        if prepared is None:
            return None
        with _noted(scan, failed):
            began = time.perf_counter()
            kept = _held(model, files[0], output, maps) if maps else None
            mask = model.labels.decode(predictor.predict_read(files, prepared, kept=kept))
            made[name]["seconds"] = round(time.perf_counter() - began, 3)
            return mask, kept
        return None

    def write(scan: Scan, result: tuple[np.ndarray, np.ndarray | None] | None) -> None:
        if result is not None:
            with _noted(scan, failed):
                mask, kept = result
                if kept is not None:
                    _write_maps(output, scan, kept, model.labels, maps)
                write_file(output / scan[0], mask, scan[1][0])

    for name, _ in overlapped(read, predict, write, scans):
        advance(name)
    failed = {name: failed[name] for name, _ in scans if name in failed}
    if len(failed) == len(scans):
        return failed
    write_json(
        output / "predictions.json",
        {
            **_settings_record(model, settings, maps),
            "scans": {name: how for name, how in made.items() if name not in failed},
            "failed": failed,
            "provenance": provenance.collect(0, started, command),
        },
    )
    return failed


@contextlib.contextmanager
def _noted(scan: Scan, failed: dict[str, str]) -> Iterator[None]:
    """Note why a scan cannot be predicted, in place of stopping."""
    try:
        yield
    except UserError as error:
        failed[scan[0]] = str(error)


def _held(model: Model, image: Path, output: Path, maps: Collection[str]) -> np.ndarray:
    """Room on the disk of the output for what maps of a scan are made of."""
    kind = np.float32 if model.groups else np.float16  # means of several plans are summed up
    return held((model.labels.outputs + (UNCERTAINTY in maps), *read_grid(image).shape), kind, output)


def _settings_record(model: Model, settings: Settings, maps: Collection[str]) -> dict[str, Any]:
    """What all masks have in common: the model, how it was scored and how it was predicted."""
    return {
        "model": [_described(member) for member in model.members] or _described(model),
        "dataset": model.dataset,
        "labels": model.labels.declared,
        "scored": [part.scored for part in settings.parts] or settings.scored,
        "predicted": [part.used for part in settings.parts] or settings.used,
        "device": settings.device.type,
        "notes": settings.notes,
        **({PROBABILITIES: list(model.labels.regions or model.labels)} if PROBABILITIES in maps else {}),
    }


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
