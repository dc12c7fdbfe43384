"""``fold=all``: trains every fold into a separate run folder, and summarises all validation scans in one more."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segment import provenance
from segment.data.layouts.common import image_files
from segment.data.splits import count_folds
from segment.errors import UserError
from segment.files import file_sha256, linked_copy, read_mapping, write_json, written_whole
from segment.inference.postprocessing import write_postprocessing
from segment.io.formats import stem
from segment.metrics.standard import LEAD
from segment.report.run_page import write_page
from segment.report.tensorboard import write_board
from segment.runs.confusion import FILE as CONFUSION
from segment.runs.confusion import sum_confusions, write_confusion
from segment.runs.detection import KEY as DETECTION
from segment.runs.detection import detection_line, pool_folds
from segment.runs.folder import RunFolder, read_run
from segment.runs.metrics import recorded_infos
from segment.runs.scans import TEST, joined, write_scans
from segment.runs.settings import check_folder, write_settings, written_plan
from segment.runs.summary import POSTPROCESSING, merged_protocol, read_summary, summarise, text_table, write_summary
from segment.text import table
from segment.workflow.experiment import Experiment
from segment.workflow.masks import masks_folder
from segment.workflow.peers import Peers
from segment.workflow.postprocess import AUTO, NONE, Postprocessed, decided, told, write_mask
from segment.workflow.processes import this_process

_SUMMED = ("wall_seconds", "train_seconds", "energy_kwh", "co2_kg")


def cross_validate(experiment: Experiment, train: Callable[[Experiment], object]) -> float | None:
    """Train every unfinished fold in order, then summarise all validation scans together.

    The folds' run folders are those of ``fold=N``, and the summary's folder beside them is named ``foldall``. With
    ``name=`` or ``output=``, that names the summary's folder, and ``-foldN`` is appended for the folds.

    Args:
        experiment: The experiment with ``fold=all``.
        train: Trains one fold.

    Returns:
        Foreground Dice over all validation scans; None if there is none.
    """
    if experiment.overfit or experiment.trainer.fast_dev_run:
        raise UserError("fold=all: overfit and fast_dev_run use a single fold. Give one, such as fold=0.")
    started = time.time()
    check_folder(experiment.output, experiment.settings(written_plan(experiment.output)))
    process, runs = this_process(experiment.trainer), list[Path]()
    while not runs or len(runs) < count_folds(runs[0] / "splits.json"):
        one = experiment.one_fold(len(runs))
        train(one)
        runs.append(one.output)
    peers = Peers()
    mean = sum_up(experiment, [read_run(run) for run in runs], started) if process.rank == 0 else None
    peers.wait()
    return peers.told(mean)


def sum_up(experiment: Experiment, runs: Sequence[RunFolder], started: float) -> float | None:
    """Write the run folder of the whole cross-validation from those of the folds, unless it is up to date.

    Args:
        experiment: The experiment with ``fold=all``, whose run folder is written.
        runs: The folds' finished run folders, in order. If they scored test scans, which all folds predict, the summary
            has each test scan's mean score over the folds: what one of these models achieves, not their ensemble.
        started: ``time.time()`` at the start of the command.

    Returns:
        Foreground Dice over all validation scans; None if there is none.
    """
    folder = experiment.output
    try:
        record = provenance.collect(experiment.seed, started, experiment.command.arguments, **_describe(folder, runs))
    except (LookupError, TypeError, AttributeError, OSError) as error:
        raise UserError(
            f"{runs[0].path} or the run of another fold is damaged ({error}). Delete it to train that fold again."
        ) from error
    page = folder / "report.html"
    if page.exists() and read_mapping(folder / "provenance.json").get("runs") == record["runs"]:
        written = read_summary(folder / "summary.json")
        if experiment.postprocessing == NONE or POSTPROCESSING in written:
            print(f"{folder} is finished: see {page}.")
            return mean_dice(written)
    found = decided(experiment, runs) if experiment.postprocessing == AUTO else None
    scans = found.scans if found else joined(run.scans for run in runs)
    protocol = merged_protocol(run.summary for run in runs) | {"fold": "all", "folds": len(runs)}
    protocol |= found.protocol if found else {}
    early = [str(fold) for fold, run in enumerate(runs) if run.provenance.get("stopped_early")]
    protocol["stopped_early"] = f"in fold {', '.join(early)}" if early else None
    summary = summarise(
        scans,
        protocol,
        _cost([run.summary.get("cost") or {} for run in runs]),
        recorded_infos(run.summary for run in runs),
    )
    page.unlink(missing_ok=True)  # the mark of a finished run
    write_settings(folder, experiment.settings(runs[0].config.get("planned")))
    write_scans(folder / "scans.csv", scans)
    decision = {POSTPROCESSING: found.decision.as_dict()} if found else {}
    detected = pool_folds(folder, {run.path: run.summary.get(DETECTION) for run in runs})
    write_summary(folder / "summary.json", summary | decision | ({DETECTION: detected} if detected else {}))
    confusion = sum_confusions([run.path / CONFUSION for run in runs])
    if confusion is not None:
        counts = confusion.to_numpy() if found is None or found.confusion is None else found.confusion
        write_confusion(folder / CONFUSION, list(confusion.index), counts)
    write_json(folder / "provenance.json", record)
    _gather_predictions(folder / "predictions", runs, scans, found)
    _gather_models(folder / "model", runs)
    if found:
        write_postprocessing(folder / "model", found.decision.steps)
    write_board(folder)
    write_page(folder)
    print(f"\n{_fold_table(runs)}\n\n{text_table(summary, scans)}")
    if found:
        print(told(found.decision))
    if detected:
        print(detection_line(detected))
    print(f"Report  {page}\nMasks   {folder / 'predictions'}")
    return mean_dice(summary)


def mean_dice(summary: Mapping[str, Any]) -> float | None:
    """Foreground Dice of a summary; None if there is none."""
    mean: float | None = summary["foreground"][LEAD.name]["mean"]
    return mean


def _fold_table(runs: Sequence[RunFolder]) -> str:
    """Dice of every fold; of its test scans too, if there are any."""
    tested = any(TEST in run.summary for run in runs)
    heads = ["fold", "scans", "Dice", *(["test Dice"] if tested else []), "run"]
    rows = []
    for fold, run in enumerate(runs):
        parts = [run.summary, *([run.summary.get(TEST)] if tested else [])]
        rows.append((str(fold), f"{run.summary['scans']}", *map(_decimal, parts), str(run.path)))
    return table(heads, rows, left=["fold", "run"])


def _decimal(summary: Mapping[str, Any] | None) -> str:
    mean = mean_dice(summary) if summary else None
    return "-" if mean is None else f"{mean:.4f}"


def _describe(folder: Path, runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Entries of provenance.json: the runs that were summarised, and their data set, labels and scans."""
    first = runs[0].provenance
    return {
        **{key: first.get(key) for key in ("dataset", "notice", "labels", "region_order", "steps", "max_time")},
        "runs": [
            {
                "fold": fold,
                "folder": os.path.relpath(run.path, folder),
                "sha256": file_sha256(run.path / "scans.csv"),
                "weights": file_sha256(run.path / "model" / "weights.safetensors"),
                "code": run.provenance.get("code"),
            }
            for fold, run in enumerate(runs)
        ],
        # Every scan was scored by a model that was not trained on it.
        "split": {"train": [], "val": [case for run in runs for case in run.provenance["split"]["val"]]},
        "cases": {case: run.provenance["cases"][case] for run in runs for case in run.provenance["split"]["val"]},
        "test_cases": first.get("test_cases", {}),
    }


def _cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Cost of all folds: sum of times and energy, largest peak, mean of rates; other values only if all agree."""
    total: dict[str, Any] = {}
    for key in costs[0]:
        values = [cost.get(key) for cost in costs]
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            figures = [float(value) for value in values]  # type: ignore[arg-type]
            mean = sum(figures) / len(figures)
            total[key] = sum(figures) if key in _SUMMED else max(figures) if key.startswith("peak_") else mean
        elif all(value == values[0] for value in values):
            total[key] = values[0]
    return total


def _gather_models(target: Path, runs: Sequence[RunFolder]) -> None:
    """Put the folds' models into one folder that can be handed over; it takes no room where files can be linked."""
    shutil.rmtree(target, ignore_errors=True)
    for fold, run in enumerate(runs):
        linked_copy(run.path / "model", target / f"fold{fold}")


def _gather_predictions(
    target: Path, runs: Sequence[RunFolder], scans: pd.DataFrame, found: Postprocessed | None
) -> None:
    """Write the folds' masks into one folder, except those of scans that several folds validated."""
    times = scans.drop_duplicates(["case", "fold"])["case"].value_counts()
    target.mkdir(parents=True, exist_ok=True)
    for run in runs:
        for file in image_files(masks_folder(run, "val", unprocessed=found is not None)):
            if file.is_symlink() or times.get(stem(file)) != 1:
                continue
            if found and found.change:
                write_mask(file, target / file.name, found.change, found.labels)
                continue
            with written_whole(target / file.name) as temporary:
                shutil.copyfile(file, temporary)
