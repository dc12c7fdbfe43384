"""Ensembles of two finished runs on their validation scans, each as a run folder that can be compared.

nnU-Net averages the probabilities that its runs kept of every validation scan (``nnUNetv2_find_best_configuration``).
Here the models predict the scans again, as `segment predict model=[A,B]` does, so nothing needs to have been kept.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from segment import provenance
from segment.data.labels import Labels
from segment.errors import UserError
from segment.evaluation.score import score_pairs
from segment.files import file_sha256, read_mapping, remove_leftovers, write_json, write_text
from segment.inference.ensemble import ensemble
from segment.inference.limits import find_model, model_folders
from segment.inference.model import load_model, predictor_with
from segment.io.formats import mask_suffix
from segment.io.images import write_label
from segment.metrics.metric import Metric
from segment.metrics.standard import DEFAULT
from segment.parallel import overlapped
from segment.runs.folder import RunFolder, read_run
from segment.runs.health import failure
from segment.runs.scans import joined, write_scans
from segment.runs.summary import POSTPROCESSING, merged_protocol, summarise, write_summary

WEIGHTS = "ensemble.json"
"""File with the hashes of the weights that the masks of an ensemble are made with."""


@dataclass(frozen=True)
class Ensemble:
    """Two runs and the folder of their ensemble.

    Attributes:
        folder: The run folder of the ensemble.
        members: Positions of both among the given runs.
    """

    folder: Path
    members: tuple[int, int]


@dataclass(frozen=True)
class _Fold:
    """A fold that both runs have.

    Attributes:
        runs: The run folder of the fold of each.
        cases: Ids of its validation scans.
    """

    runs: tuple[RunFolder, RunFolder]
    cases: tuple[str, ...]

    def images(self, case: str) -> list[Path]:
        """Image files of a scan."""
        return [Path(file) for file in self.runs[0].provenance["cases"][case]["images"]]

    def reference(self, case: str) -> Path:
        """Reference of a scan."""
        return Path(self.runs[0].provenance["cases"][case]["label"])


def ensemble_metrics(names: Sequence[str]) -> list[Metric]:
    """The metrics that ensembles are scored by.

    Raises:
        UserError: When one of the names is none of them.
    """
    known = {metric.name: metric for metric in DEFAULT if not metric.uses_tolerance}
    for name in names:
        if name not in known:
            raise UserError(f"metric={name}: ensembles=true scores ensembles by {', '.join(known)} only.")
    return [known[name] for name in names]


def write_ensembles(
    runs: Sequence[Path],
    output: Path,
    metrics: Sequence[Metric],
    trust: Sequence[str] = (),
    accelerator: str = "auto",
    command: Sequence[str] = (),
    advance: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> list[Ensemble]:
    """Predict and score the validation scans with the ensemble of every two runs; what is there is kept.

    Args:
        runs: Finished runs of the same folds: folders of ``fold=all``, or of single folds.
        output: Folder of the ensembles' run folders.
        metrics: Metrics besides the standard ones.
        trust: Additional modules whose networks may be built.
        accelerator: ``cpu``, ``gpu``, or ``auto`` for a GPU if available.
        command: Arguments of ``segment``.
        advance: Called with the name of an ensemble, and the number of its scans that are done, and of all.

    Returns:
        The ensembles, in the order of the pairs.

    Raises:
        UserError: When a run is not finished, two runs were not trained on the same folds, or a scan cannot be read.
    """
    folds = [[_finished(folder) for folder in model_folders(str(run))] for run in runs]
    found = []
    for first, second in itertools.combinations(range(len(runs)), 2):
        shared = [_shared(one, folds[second], runs[second]) for one in folds[first]]
        name = f"{runs[first].absolute().name}+{runs[second].absolute().name}"
        made = _Making(output / name, (runs[first], runs[second]), shared, metrics)
        made.write(trust, accelerator, command, lambda done, total, name=name: advance(name, done, total))  # type: ignore[misc]
        found.append(Ensemble(output / name, (first, second)))
    return found


def _finished(folder: Path) -> RunFolder:
    """A finished run of one fold, with its model."""
    if failed := failure(folder):
        raise UserError(f"runs: {failed} has no result. Finish it first: the same command resumes a run.")
    run = read_run(folder)
    find_model(folder)
    if "split" not in run.provenance:
        raise UserError(f"runs: {folder} has no provenance.json of a training, so it cannot be part of an ensemble.")
    return run


def _shared(one: RunFolder, others: Sequence[RunFolder], given: Path) -> _Fold:
    """The fold of a run and the one that validated the same scans."""
    cases = one.provenance["split"]["val"]
    for other in others:
        if set(other.provenance["split"]["val"]) == set(cases):
            return _Fold((one, other), tuple(cases))
    raise UserError(
        f"runs: no fold of {given} validated the scans of {one.path}. Ensembles are scored on scans that neither model "
        "was trained on: train both on the same folds."
    )


@dataclass(frozen=True)
class _Making:
    """The making of one ensemble."""

    folder: Path
    runs: tuple[Path, Path]
    folds: Sequence[_Fold]
    metrics: Sequence[Metric]

    def write(
        self, trust: Sequence[str], accelerator: str, command: Sequence[str], advance: Callable[[int, int], None]
    ) -> None:
        """Write the run folder, unless it is there."""
        started, total = time.time(), sum(len(fold.cases) for fold in self.folds)
        weights = self._weights()
        if not (self.folder / WEIGHTS).is_file() or read_mapping(self.folder / WEIGHTS) != weights:
            shutil.rmtree(self.folder / "predictions", ignore_errors=True)  # of other models
            write_json(self.folder / WEIGHTS, weights)
        (self.folder / "predictions").mkdir(exist_ok=True)
        remove_leftovers(self.folder / "predictions")
        tables, done = [], 0
        for fold in self.folds:
            for _ in self._predict(fold, trust, accelerator):
                done += 1
                advance(done, total)
            tables.append(self._score(fold))
        self._record(joined(tables), started, command)

    def _weights(self) -> dict[str, Any]:
        """Hashes of the weights of every fold."""
        files = [[find_model(run.path) / "weights.safetensors" for run in fold.runs] for fold in self.folds]
        return {"weights": [[file_sha256(file) for file in pair] for pair in files]}

    def _mask(self, fold: _Fold, case: str) -> Path:
        return self.folder / "predictions" / f"{case}{mask_suffix(fold.reference(case))}"

    def _predict(self, fold: _Fold, trust: Sequence[str], accelerator: str) -> Any:
        """Write the missing masks of a fold; yields once for every scan."""
        missing = [case for case in fold.cases if not self._mask(fold, case).is_file()]
        yield from [case for case in fold.cases if case not in missing]
        if not missing:
            return
        model, _ = ensemble([load_model(run.path, trust) for run in fold.runs], ())
        predictor = predictor_with(model, model.settings(accelerator=accelerator, postprocessing=False))

        def predict(case: str, prepared: Any) -> np.ndarray:
            return model.labels.decode(predictor.predict_read(fold.images(case), prepared))

        def write(case: str, mask: np.ndarray) -> None:
            write_label(self._mask(fold, case), mask, like=fold.images(case)[0])

        yield from overlapped(lambda case: predictor.read(fold.images(case)), predict, write, missing)

    def _score(self, fold: _Fold) -> pd.DataFrame:
        """The scores of a fold."""
        record = fold.runs[0].provenance
        order = record.get("region_order")
        pairs = [(case, self._mask(fold, case), fold.reference(case)) for case in fold.cases]
        rows = fold.runs[0].scans
        groups = dict(zip(rows["case"], rows["group"], strict=True)) if "group" in rows else {}
        number = int(rows["fold"].iloc[0])
        return score_pairs(pairs, Labels(record["labels"], order), "val", number, self.metrics, groups=groups)

    def _record(self, scans: pd.DataFrame, started: float, command: Sequence[str]) -> None:
        """Write the files of the run folder; scans.csv last."""
        every = [run for fold in self.folds for run in fold.runs]
        protocol = merged_protocol(run.summary for run in every) | {POSTPROCESSING: None, "split": "val"}
        protocol |= {"fold": "all" if len(self.folds) > 1 else protocol.get("fold")}
        config = _together(*(read_mapping(run / "config.yaml") for run in self.runs))
        write_text(self.folder / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        write_summary(self.folder / "summary.json", summarise(scans, protocol, {}, [one.info for one in self.metrics]))
        first = every[0].provenance
        cases = {case: fold.runs[0].provenance["cases"][case] for fold in self.folds for case in fold.cases}
        more = {key: first.get(key) for key in ("dataset", "notice", "labels", "region_order")}
        more |= {"ensemble": [str(run.absolute()) for run in self.runs], **self._weights()}
        more |= {"split": {"train": [], "val": [*cases]}, "cases": cases}
        record = provenance.collect(int(first.get("seed", 0)), started, command, **more)
        write_json(self.folder / "provenance.json", record)
        write_scans(self.folder / "scans.csv", scans)


def _together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of an ensemble: what both have, and both values where they differ."""
    found: dict[str, Any] = {}
    for key in {**one, **other}:
        first, second = one.get(key), other.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            found[key] = _together(first, second)
        else:
            found[key] = first if first == second else f"{first} + {second}"
    return found
