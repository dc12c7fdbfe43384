"""Writes the masks of scans, with a record of how they were made."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment import __version__, provenance
from segment.errors import UserError
from segment.files import file_sha256, plain, remove_leftovers, write_json
from segment.inference.conformal import conformal_masks, conformal_thresholds
from segment.inference.held import held
from segment.inference.inputs import CONFORMAL, PROBABILITIES, UNCERTAINTY, Scan
from segment.inference.journal import Journal
from segment.inference.model import Model, predictor_with
from segment.inference.quality import expected_scan_dice
from segment.inference.region import Region
from segment.inference.settings import Settings
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
    risk: float | None = None,
    roi: Roi | None = None,
    resume: bool = True,
) -> dict[str, str]:
    """Write the mask of each scan on its own grid, then ``predictions.json``: how they were made.

    A scan that cannot be predicted, such as a damaged file, does not stop the others. Until the record is written, a
    journal keeps what is done, so that the same command goes on after an interruption.

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
            every label or region, ``uncertainty``, the maps of `segment.inference.uncertainty.uncertainty` and for each
            structure the expected Dice of the mask in the record, and ``conformal``, masks of every structure that miss
            no more than a share of it.
        risk: That share, see `segment.inference.conformal`.
        roi: The coarse model that finds the part of each scan that is predicted; None: all of it.
        resume: Whether masks that an interrupted call with the same settings has written are kept.

    Returns:
        Name of the mask to the reason, for each scan that could not be predicted. If none could, nothing is written.

    Raises:
        UserError: When the folder has masks of an interrupted prediction with other settings, and `resume` is true.
    """
    started = time.time()
    work = _Work(model, settings, output, write_file, maps, risk, roi)
    record = plain(
        {
            **_settings_record(model, settings, maps),
            **work.conformal_record(),
            **({"roi": roi.record()} if roi else {}),
        }
    )
    output.mkdir(parents=True, exist_ok=True)
    remove_leftovers(output)
    # The command in place of the settings: a repeated one may measure other batches.
    asked = sorted(command) or record["predicted"]
    decided = {"model": record["model"], "roi": roi and _models(roi.model), "maps": sorted(maps), "asked": asked}
    with Journal(output, {**decided, "version": __version__}) as journal:
        if resume:
            journal.require_same([name for name, _ in scans])
        found = {name: journal.find(name, files) if resume else None for name, files in scans}
        work.made.update({name: made for name, made in found.items() if made is not None})
        for name in work.made:
            advance(name)
        left = [scan for scan in scans if scan[0] not in work.made]
        for name, _ in overlapped(work.read, work.predict, functools.partial(work.write, journal), left):
            advance(name)
        failed = {name: work.failed[name] for name, _ in scans if name in work.failed}
        if len(failed) == len(scans):
            return failed
        made = {name: work.made[name] for name, _ in scans if name not in failed}
        origin = provenance.collect(0, started, command)
        write_json(output / "predictions.json", record | {"scans": made, "failed": failed, "provenance": origin})
        journal.remove()
    return failed


@dataclass(frozen=True)
class Roi:
    """A coarse model that finds the part of a scan that is predicted, see `segment.inference.region.Region`.

    Attributes:
        model: The coarse model, of the same channels.
        settings: Its prediction settings.
        margin: mm around what it finds, along each axis.
    """

    model: Model
    settings: Settings
    margin: float

    def record(self) -> dict[str, Any]:
        """What ``predictions.json`` says of it."""
        return {"model": _models(self.model), "margin_mm": self.margin, "predicted": _used(self.settings)}


Result = tuple[np.ndarray, np.ndarray | None]
"""A mask, and what maps are made of."""


class _Work:
    """Reads, predicts and writes scans one by one.

    Attributes:
        made: Name of the mask to what is recorded of its scan.
        failed: Name of the mask to the reason, for each scan that could not be predicted.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        output: Path,
        write_file: Callable[[Path, np.ndarray, Path], None],
        maps: Collection[str],
        risk: float | None,
        roi: Roi | None,
    ) -> None:
        self.model, self.output, self.write_file, self.maps = model, output, write_file, maps
        region = Region(predictor_with(roi.model, roi.settings).predict_image, roi.margin).box if roi else None
        self.predictor = predictor_with(model, settings, region)
        self.risk = risk
        self.limits = np.zeros(0, np.float32)
        if risk is not None:
            self.limits = conformal_thresholds({} if model.members else model.conformal, risk, model.labels)
        self.made: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}

    def read(self, scan: Scan) -> Any:
        """Read and prepare a scan; None if that fails."""
        with self._noted(scan):
            prepared = self.predictor.read(scan[1])
            images = [file.absolute() for file in scan[1]]
            self.made[scan[0]] = {"images": [*map(str, images)], "sha256": hash_scans(images)}
            return prepared
        return None

    def predict(self, scan: Scan, prepared: Any) -> Result | None:
        """Predict what `read` returned; None if that fails."""
        name, files = scan
        if prepared is None:
            return None
        with self._noted(scan):
            began = time.perf_counter()
            kept = self._held(files[0]) if self.maps else None
            mask = self.model.labels.decode(self.predictor.predict_read(files, prepared, kept=kept))
            self.made[name]["seconds"] = round(time.perf_counter() - began, 3)
            return mask, kept
        return None

    def write(self, journal: Journal, scan: Scan, result: Result | None) -> None:
        """Write what `predict` returned, the mask last."""
        if result is not None:
            with self._noted(scan):
                mask, kept = result
                if kept is not None:
                    self._write_maps(scan, kept)
                if kept is not None and UNCERTAINTY in self.maps:
                    labels = self.model.labels
                    expected = expected_scan_dice(kept[: labels.outputs], labels.encode(mask), labels)
                    self.made[scan[0]]["expected_dice"] = {key: round(value, 4) for key, value in expected.items()}
                journal.begin(scan[0])
                self.write_file(self.output / scan[0], mask, scan[1][0])
                journal.add(scan[0], self.made[scan[0]])

    @contextlib.contextmanager
    def _noted(self, scan: Scan) -> Iterator[None]:
        """Note why a scan cannot be predicted, in place of stopping."""
        try:
            yield
        except UserError as error:
            self.failed[scan[0]] = str(error)

    def _held(self, image: Path) -> np.ndarray:
        """Room on the disk of the output for what maps of a scan are made of."""
        outputs = self.model.labels.outputs + (UNCERTAINTY in self.maps)
        # Means of several plans are summed up; conformal thresholds were found among exact values.
        kind = np.float32 if self.model.groups or CONFORMAL in self.maps else np.float16
        return held((outputs, *read_grid(image).shape), kind, self.output)

    def _write_maps(self, scan: Scan, kept: np.ndarray) -> None:
        """Write maps of a scan from what `segment.inference.predictor.Predictor.mask` has kept of it."""
        labels, name, grid = self.model.labels, f"{stem(Path(scan[0]))}.nii.gz", read_grid(scan[1][0])
        volumes = kept[:, None] if kept.ndim == 3 else kept
        if PROBABILITIES in self.maps:
            write_fractions(self.output / PROBABILITIES / name, volumes[: labels.outputs], grid)
        if UNCERTAINTY in self.maps:
            found = np.empty((2, *volumes.shape[1:]), np.float16)
            for index in range(volumes.shape[1]):
                found[:, index] = uncertainty(volumes[:, index], bool(labels.regions))
            write_fractions(self.output / UNCERTAINTY / name, found, grid)
        if CONFORMAL in self.maps:
            found = conformal_masks(volumes, self.limits, labels)
            write_fractions(self.output / CONFORMAL / name, found, grid)

    def conformal_record(self) -> dict[str, Any]:
        """The entry ``conformal`` of the record: the risk, and the threshold of each structure; empty without masks."""
        if self.risk is None:
            return {}
        thresholds = dict(zip(self.model.labels.structures, map(float, self.limits), strict=True))
        return {CONFORMAL: {"risk": self.risk, "thresholds": thresholds}}


def _settings_record(model: Model, settings: Settings, maps: Collection[str]) -> dict[str, Any]:
    """What all masks have in common: the model, how it was scored and how it was predicted."""
    return {
        "model": _models(model),
        "dataset": model.dataset,
        "labels": model.labels.declared,
        "scored": [part.scored for part in settings.parts] or settings.scored,
        "predicted": _used(settings),
        "device": settings.device.type,
        "notes": settings.notes,
        **({PROBABILITIES: list(model.labels.regions or model.labels)} if PROBABILITIES in maps else {}),
    }


def _models(model: Model) -> Any:
    """The description of a model, or those of an ensemble's members."""
    return [_described(member) for member in model.members] or _described(model)


def _used(settings: Settings) -> Any:
    """The settings that a model, or each plan of an ensemble, is predicted with."""
    return [part.used for part in settings.parts] or settings.used


def _described(model: Model) -> dict[str, Any] | None:
    """Folder of a model, and file and hash of its weights; None for a network that was not loaded."""
    if model.folder is None:
        return None
    weights = model.weights or model.folder / "weights.safetensors"
    return {
        "folder": str(model.folder.absolute()),
        "weights": str(weights.absolute()),
        "sha256": file_sha256(weights),
        **({"first_stage": _described(model.previous)} if model.previous else {}),
    }
