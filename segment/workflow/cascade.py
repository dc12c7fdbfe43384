"""The first stage of a cascade, from its finished runs: masks by models that were not trained on their scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segment.data.case import Case, Dataset
from segment.data.layouts.common import image_files
from segment.errors import UserError
from segment.files import file_sha256, linked_copy
from segment.inference.description import PREVIOUS, set_postprocessing
from segment.inference.limits import find_model, model_folders
from segment.io.formats import stem
from segment.runs.folder import RunFolder, read_run
from segment.runs.health import failure
from segment.workflow.masks import masks_folder


@dataclass(frozen=True)
class FirstStage:
    """The runs of a first stage.

    Attributes:
        source: What the user gave.
        runs: A finished run of each fold.
        masks: File and SHA-256 of the mask of each scan, before post-processing, by case id; each is by a model that
            was not trained on the scan.
        validated: Ids of the scans that each run validated.
    """

    source: str
    runs: Sequence[RunFolder]
    masks: Mapping[str, tuple[Path, str]]
    validated: Sequence[frozenset[str]]

    def require(self, cases: Sequence[Case]) -> None:
        """Check that every scan has a mask.

        Raises:
            UserError: If not; it says what is needed.
        """
        if lacking := [case.id for case in cases if case.id not in self.masks]:
            raise UserError(
                f"cascade={self.source}: {len(lacking)} of {len(cases)} scans (such as {lacking[0]}) have no "
                "mask by a model of the first stage that was not trained on them. The second stage needs the runs of "
                "all folds of the first, on the same scans and folds: train it with fold=all and give its folder."
            )

    def run_of(self, validated: Sequence[str]) -> RunFolder:
        """The run whose model becomes part of the second stage: it was trained on none of the scans.

        Args:
            validated: Ids of the scans that the second stage is scored on.

        Raises:
            UserError: If there is none.
        """
        for run, own in zip(self.runs, self.validated, strict=True):
            if own.issuperset(validated):
                return run
        raise UserError(
            f"cascade={self.source}: no fold of the first stage validated all scans that this fold validates, so "
            "its model cannot be part of the second stage. Train both stages on the same folds (folds=, splits=)."
        )

    def record(self, run: RunFolder) -> dict[str, Any]:
        """The entry of provenance.json: the run whose model is included, and the hash of every mask."""
        return {
            "folder": str(run.path.absolute()),
            "weights": file_sha256(find_model(run.path) / "weights.safetensors"),
            "masks": {case: sha256 for case, (_, sha256) in self.masks.items()},
        }


def read_first_stage(source: str, dataset: Dataset, hashes: Mapping[str, str]) -> FirstStage:
    """Read the runs of a first stage.

    Args:
        source: The run folder of its ``fold=all``, or those of its folds as ``[A,B]``.
        dataset: The data set of the second stage.
        hashes: SHA-256 of every file of its scans, by path.

    Raises:
        UserError: When a run is missing or not finished, or has other labels or scans.
    """
    runs = [_finished(source, folder) for folder in model_folders(source)]
    known = {case.id: case for case in dataset.cases}
    masks: dict[str, tuple[Path, str]] = {}
    validated = []
    for run in runs:
        if run.provenance.get("labels") != dataset.labels.declared:
            raise UserError(f"cascade={source}: the labels of {run.path} are not those of data set {dataset.name!r}.")
        split = run.provenance["split"]
        own = frozenset(split["val"]) - frozenset(split["train"])
        validated.append(own)
        files = {stem(file): file for file in image_files(masks_folder(run, "val", unprocessed=True))}
        for case in sorted(own & known.keys() & files.keys()):
            _require_same(source, run, known[case], hashes)
            masks.setdefault(case, (files[case], file_sha256(files[case])))
    return FirstStage(source, runs, masks, validated)


def _finished(source: str, folder: Path) -> RunFolder:
    """A finished run of one fold."""
    how = "Train its folds: segment train ... plan.configuration=3d_lowres fold=all, and give cascade= their folder."
    if not (folder / "provenance.json").is_file():
        raise UserError(
            f"cascade={source}: {folder} is no run folder, which has the masks of its validation scans. A model folder "
            f"is not enough. {how}"
        )
    if failed := failure(folder):
        raise UserError(f"cascade={source}: {failed} has no result. {how}")
    return read_run(folder)


def _require_same(source: str, run: RunFolder, case: Case, hashes: Mapping[str, str]) -> None:
    """Refuse a mask of another scan of the same name."""
    recorded = set(run.provenance["cases"][case.id]["sha256"].values())
    if not recorded >= {hashes[str(file)] for file in case.images if str(file) in hashes}:
        raise UserError(
            f"cascade={source}: {run.path} was scored on another scan called {case.id!r}. Train the first stage on "
            "this data set."
        )


def include_first_stage(run: RunFolder, model: Path) -> None:
    """Put the model of a run into the model folder of the second stage; it takes no room where files can be linked.

    Args:
        run: The run of the first stage.
        model: The model folder of the second stage.
    """
    linked_copy(find_model(run.path), model / PREVIOUS)
    set_postprocessing(model / PREVIOUS, ())  # the second stage was trained on masks before it
