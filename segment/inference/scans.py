"""Writes the masks of scans, with a record of how they were made."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segment import __version__, provenance
from segment.errors import UserError
from segment.files import file_sha256, plain, remove_leftovers
from segment.inference.claims import Claims
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
    since: float = 0.0,
) -> Predicted:
    """Write the mask of each scan on its own grid, then ``predictions.json``: how they were made.

    A scan that cannot be predicted, such as a damaged file, does not stop the others. Until the record is written, a
    journal keeps what is done, so that the same command goes on after an interruption. Processes that do the same at
    the same time, on any machine that sees the folder, share the scans; each returns once every mask is written.

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
        since: Masks of the same settings are kept if they were written after this time, in seconds since the epoch. If
            it is not 0, masks of other settings are replaced.

    Returns:
        What was predicted. If no scan could be, nothing is written.

    Raises:
        UserError: When the folder has masks of a prediction with other settings, and `since` is 0.
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
    # The command, or settings without these: a repeated one may measure other batches.
    used = [part.used for part in settings.parts] or [settings.used]
    own = [{key: value for key, value in part.items() if key not in ("batch_size", "layout")} for part in used]
    asked = sorted(command) or plain(own)
    decided = {"model": record["model"], "roi": roi and _models(roi.model), "maps": sorted(maps), "asked": asked}
    journal = Journal(output, {**decided, "version": __version__}, since)
    if not since:
        journal.require_same([name for name, _ in scans])
    with Claims(output) as claims:
        work.share(scans, journal, claims, advance)
    failed = {name: work.failed[name] for name, _ in scans if name in work.failed}
    made = {name: work.made[name] for name, _ in scans if name not in failed}
    whole = record | {"scans": made, "failed": failed, "provenance": provenance.collect(0, started, command)}
    return Predicted(failed, work.own, bool(made) and journal.complete(whole))


@dataclass(frozen=True)
class Predicted:
    """What `predict_scans` did.

    Attributes:
        failed: Name of the mask to the reason, for each scan that could not be predicted.
        own: Number of masks that this process wrote.
        completed: Whether this process wrote the record, when all masks were there.
    """

    failed: Mapping[str, str]
    own: int
    completed: bool


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


POLL = 0.2  # seconds between two looks at scans that other processes have

Result = tuple[np.ndarray, np.ndarray | None]
"""A mask, and what maps are made of."""


class _Work:
    """Reads, predicts and writes scans one by one.

    Attributes:
        made: Name of the mask to what is recorded of its scan, once it is written.
        failed: Name of the mask to the reason, for each scan that could not be predicted.
        own: Number of masks that this process wrote.
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
        self.begun: dict[str, dict[str, Any]] = {}
        self.made: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, str] = {}
        self.own = 0

    def share(self, scans: Sequence[Scan], journal: Journal, claims: Claims, advance: Callable[[str], None]) -> None:
        """Predict scans together with other processes, until all are written or have failed here.

        Args:
            scans: The scans.
            journal: Knows what is written.
            claims: Tells whether another process has a scan.
            advance: Called with a mask's name once its scan is done.
        """
        read = functools.partial(self.read, journal, claims)
        write = functools.partial(self.write, journal, claims)
        left = list(scans)
        while left:
            for name, _ in overlapped(read, self.predict, write, left):
                if name in self.made or name in self.failed:
                    advance(name)
            left = [scan for scan in left if scan[0] not in self.made and scan[0] not in self.failed]
            if left:  # others have them; if one of these is killed, its scan is free
                time.sleep(POLL)

    def read(self, journal: Journal, claims: Claims, scan: Scan) -> Any:
        """Read and prepare a scan; None if that fails, its mask is there, or another process has it."""
        name, files = scan
        with self._noted(scan):
            if not claims.take(name):
                return None
            if (made := journal.find(name, files)) is not None:
                self.made[name] = made
                return None
            if not journal.since:
                journal.require_same([name])
            prepared = self.predictor.read(files)
            images = [file.absolute() for file in files]
            self.begun[name] = {"images": [*map(str, images)], "sha256": hash_scans(images)}
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
            self.begun[name]["seconds"] = round(time.perf_counter() - began, 3)
            return mask, kept
        return None

    def write(self, journal: Journal, claims: Claims, scan: Scan, result: Result | None) -> None:
        """Write what `predict` returned, the mask last, and release the scan."""
        if result is not None:
            with self._noted(scan):
                mask, kept = result
                made = self.begun.pop(scan[0])
                if kept is not None:
                    self._write_maps(scan, kept)
                if kept is not None and UNCERTAINTY in self.maps:
                    labels = self.model.labels
                    expected = expected_scan_dice(kept[: labels.outputs], labels.encode(mask), labels)
                    made["expected_dice"] = {key: round(value, 4) for key, value in expected.items()}
                journal.begin(scan[0])
                self.write_file(self.output / scan[0], mask, scan[1][0])
                journal.add(scan[0], made)
                self.made[scan[0]] = made
                self.own += 1
        claims.release(scan[0])

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
