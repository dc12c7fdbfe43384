"""The command's verbs for scripts and notebooks: thin functions that return their results.

Paths are strings or ``os.PathLike``. Mistakes that a user can fix raise `segment.UserError`, whose message says how.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from segment.errors import Stopped, UserError
from segment.runs.folder import RunFolder

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from segment.inference.model import Model
    from segment.metrics.metric import Metric
    from segment.sampling.datamodule import PatchDataModule

__all__ = [
    "Comparison",
    "Evaluation",
    "build",
    "compare",
    "datamodule",
    "evaluate",
    "load_model",
    "load_run",
    "train",
]

StrPath = str | os.PathLike[str]


class Evaluation(NamedTuple):
    """Scores of masks.

    Attributes:
        scans: One row per (scan, label), columns as in ``scans.csv``: case, split, fold, label, name, dice, iou, ...
        summary: Index (structure, metric), the foreground first; columns mean, sd, median, low and high (bounds of the
            95 % interval over scans), n.
    """

    scans: pd.DataFrame
    summary: pd.DataFrame


class Comparison(NamedTuple):
    """Comparison of methods.

    Attributes:
        methods: Index (method, structure), best method first; columns rank, mean, low and high (bounds of the
            interval), n.
        pairs: One row per (pair of methods, structure), columns as in ``comparison.csv``: first, second, structure,
            first_mean, second_mean, difference, low, high, p, p_holm, effect, won, tied, lost, n, significant, ...
        conclusion: The conclusion, one sentence per metric.
        notes: Sentences on the limitations of the comparison.
    """

    methods: pd.DataFrame
    pairs: pd.DataFrame
    conclusion: str
    notes: tuple[str, ...]


def load_run(path: StrPath) -> RunFolder:
    """Read a finished run.

    Args:
        path: The run folder, such as ``runs/NAME``.

    Returns:
        The contents of its files: ``scans`` and ``table`` (pandas), ``summary``, ``config``, ``provenance``, ``path``.
        Functions that expect a path also accept it: ``load_model(run)``.

    Raises:
        UserError: When the run diverged or is not finished, or a file is missing or damaged.
    """
    from segment.runs.folder import read_run
    from segment.runs.health import failure

    folder = Path(path).expanduser()
    if failed := failure(folder):
        raise UserError(f"{failed}: it contains no result. Give the folder of a finished run.")
    return read_run(folder)


def load_model(path: StrPath, trust: Sequence[str] = ()) -> Model:
    """Read a trained model; nothing in its files is executed.

    Args:
        path: A run folder or a model folder.
        trust: Your own modules whose networks the files may name.

    Returns:
        The model. ``model.predict(scan)`` returns the mask on the scan's own grid, with the inference settings that the
        model was scored with.

    Raises:
        UserError: When a file is missing, damaged or of a newer version, or names a network of an untrusted module.
    """
    from segment.inference.model import load_model as load

    return load(Path(path).expanduser(), trust)


def evaluate(
    predictions: StrPath | Sequence[StrPath],
    references: StrPath | Sequence[StrPath],
    *,
    labels: Mapping[str, int | Sequence[int]] | None = None,
    region_order: Sequence[int] | None = None,
    ignore_extra: bool = False,
    metrics: Sequence[Metric] | None = None,
    output: StrPath | None = None,
) -> Evaluation:
    """Score masks from any program against their references, each pair on its own grid.

    Args:
        predictions: A folder of masks, matched with the references by file name, or a list, matched by position.
        references: As for ``predictions``.
        labels: Maps each name to a value, or to the list of values whose union is a region; None: the labels of a
            ``dataset.json`` in or beside the folder of references, else the values found.
        region_order: With regions, the value that each writes into a mask; None when the labels determine it.
        ignore_extra: Skip predictions without a reference.
        metrics: Metrics to compute besides Dice and IoU; None: HD95 and NSD at a tolerance of 2 mm.
        output: Folder for ``scans.csv``, ``summary.json`` and ``report.html``; None writes nothing.

    Returns:
        ``scans, summary``, two tables. A structure absent from both masks has no score; absent from one of them, it
        scores 0, or the scan's diagonal in mm for a distance.

    Raises:
        UserError: When masks are missing, cannot be read, are on a different grid than their references or contain
            values without a label.
    """
    from segment.evaluation.evaluate import evaluate as score
    from segment.evaluation.evaluate import write_evaluation
    from segment.metrics.standard import DEFAULT, STANDARD
    from segment.runs.tables import summary_table

    chosen = DEFAULT if metrics is None else (*STANDARD, *metrics)
    found = score(
        _masks(predictions), _masks(references), labels, region_order, ignore_extra=ignore_extra, metrics=chosen
    )
    if output is not None:
        from segment.report.run_page import write_evaluation_page

        folder = Path(output).expanduser()
        write_evaluation(folder, found)
        write_evaluation_page(folder)
    return Evaluation(found.scans, summary_table(found.summary))


def compare(
    runs: str | Sequence[StrPath],
    *,
    metric: str | Sequence[str] = "dice",
    by: str | None = None,
    names: Sequence[str] | None = None,
    common: bool = False,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 12345,
    split: str | None = None,
    margin: float | str | Mapping[str, float | str | None] | None = "auto",
    output: StrPath | None = None,
) -> Comparison:
    """Compare finished runs scan by scan.

    Args:
        runs: Run folders, results of `load_run`, tables of scans, or patterns such as ``runs/*``; at least two.
        metric: Column of ``scans.csv``, or several, such as ``["dice", "hd95_mm"]``: p is then corrected over all of
            them, and both tables start with the metric.
        by: ``run``: each run is a method; ``configuration``: folds and seeds of one configuration form one method;
            None: ``configuration`` when that yields at least two methods, else ``run``.
        names: Names of the methods in order; None: derived from the settings that differ.
        common: Compare only the scans that all runs share.
        level: Confidence level of the intervals, in [0.5, 1); the tests use significance level ``1 - level``.
        resamples: Number of bootstrap resamples of the scans, for the intervals and the ranking; at least 100.
        seed: Seed of the resampling.
        split: ``test``: the test scans; None: the validation scans, or whatever else the runs were scored on.
        margin: Smallest relevant difference, for the test of equivalence; ``auto``: 0.005 for scores without a unit.
            With several metrics, one each by name.
        output: Folder for ``report.html`` and ``comparison.csv``, ``.md``, ``.tex``, ``.json``; None writes nothing.

    Returns:
        ``methods, pairs, conclusion, notes``: two tables, a sentence, and the limitations of the comparison.

    Raises:
        UserError: When a run cannot be read, or the runs cannot be paired scan by scan.
    """
    from segment.evaluation.comparison.compare import compare_runs
    from segment.evaluation.comparison.frames import by_metric, methods_frame, pairs_frame

    paths = [runs] if isinstance(runs, str | os.PathLike) else runs
    metrics = [metric] if isinstance(metric, str) else list(metric)
    found = compare_runs(
        [os.fspath(run) for run in paths], metrics, by, names, common, level, resamples, seed, split, margin
    )
    if output is not None:
        from segment.report.comparison_page import write_comparison

        write_comparison(Path(output).expanduser(), found, resamples, seed)
    notes = tuple(dict.fromkeys(note for one in found for note in one.notes))
    conclusion = " ".join(one.conclusion for one in found)
    if isinstance(metric, str):
        return Comparison(methods_frame(found[0]), pairs_frame(found[0]), conclusion, notes)
    return Comparison(by_metric(methods_frame, found), by_metric(pairs_frame, found), conclusion, notes)


def build(group: str, name: str, *overrides: str, **arguments: Any) -> Any:
    """Build one component by its name on the command line.

        network = build("network", "mednext_s", in_channels=1, out_channels=3)
        optimizer = build("optimizer", "sgd", params=network.parameters(), lr=0.01)

    Args:
        group: ``network``, ``loss``, ``optimizer``, ``scheduler``, ``augment``, ``inference`` or ``data``.
        name: One of the group's choices, including your own in ``conf/``.
        *overrides: As on the command line: ``network.encoder=resnet50``, ``trainer.max_steps=100``.
        **arguments: Further constructor arguments, which override those of the configuration file. A network takes
            ``in_channels``, ``out_channels`` and ``spatial_dims`` (default 3).

    Returns:
        The object, such as a ``torch.nn.Module`` or, for ``data``, the data set. An optimizer without ``params`` or a
        scheduler without ``optimizer`` is returned as a function that takes the missing argument. A network with deep
        supervision returns a list of logits during training, finest first; wrap the loss in
        `segment.losses.deep_supervision.AnyScale` for it.

    Raises:
        UserError: When the group, choice or argument does not exist, with the closest valid name.
    """
    from segment.config.calls import part

    return part(group, name, overrides, arguments)


def datamodule(*overrides: str, augmented: bool = False) -> PatchDataModule:
    """Check, plan and prepare a data set as `train` does, for your own training loop, with or without a Trainer.

        data = datamodule("data=auto", "data.root=FOLDER", "fold=0")
        for batch in data.train_dataloader():
            loss = criterion(network(batch["image"]), batch["reference"])

    Args:
        *overrides: As for ``segment train``; only ``data``, ``fold``, ``plan``, ``sampler``, ``augment``, ``seed`` and
            ``cache`` have an effect.
        augmented: Whether the loader applies the augmentation of ``augment`` to the patches.

    Returns:
        The data module. ``train_dataloader()`` yields ``sampler.steps_per_epoch`` batches per epoch: image (batch,
        channel, *patch) float32, reference (batch, 1, *patch) class indices, spatial axes z, y, x. ``dataset``,
        ``plan``, ``train`` and ``val`` (the fold's cases) describe what a network needs to know.

    Raises:
        UserError: When the data set is not valid, or a key or value is wrong.
    """
    import functools

    from segment.config.calls import experiment_of
    from segment.sampling.datamodule import PatchDataModule
    from segment.workflow.prepare import prepare
    from segment.workflow.train import planned

    experiment = experiment_of(overrides)
    work = prepare(experiment)
    parts = experiment.build(planned(work.plan))
    augment, extent = parts.augment if augmented else None, None
    if augment is not None:
        extent = functools.partial(augment.extent, patch_size=work.plan.patch_size, spacing=work.plan.spacing)
    return PatchDataModule(
        work.store, work.train, work.val, experiment.seed, extent=extent, augment=augment, **parts.sampling
    )


def train(*overrides: str, callbacks: Sequence[pl.Callback] = ()) -> RunFolder:
    """Train and score one fold, or every fold, as ``segment train`` does; resume if the run folder exists.

        run = train("data=hippocampus", "network=mednext_s", "fold=0", "output=runs/mine")

    Args:
        *overrides: As on the command line.
        callbacks: Lightning callbacks, in addition to those of the configuration; used for a single fold only.

    Returns:
        The finished run, as `load_run` returns it. Progress and notes are printed to stderr.

    Raises:
        UserError: When a key, a value or the data set is wrong, or the training diverged.
        KeyboardInterrupt: When training was interrupted; the same call resumes it.
    """
    from segment.config.calls import experiment_of
    from segment.workflow.cross_validate import cross_validate
    from segment.workflow.train import train as train_fold

    experiment = experiment_of(overrides)
    if experiment.trainer.fast_dev_run:
        raise UserError("trainer.fast_dev_run: keeps no run to return. Use it on the command line only.")
    with _stoppable(), contextlib.redirect_stdout(sys.stderr):
        if experiment.fold == "all":
            cross_validate(experiment, train_fold)
        else:
            train_fold(experiment, callbacks)
    return load_run(experiment.output)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Convert `Stopped` to KeyboardInterrupt, which a notebook survives."""
    try:
        yield
    except Stopped as stop:
        raise KeyboardInterrupt("interrupted; the same call resumes the training") from stop


def _masks(masks: StrPath | Sequence[StrPath]) -> Path | list[Path]:
    """Convert to one path, or to a list of paths."""
    if isinstance(masks, str | os.PathLike):
        return Path(masks).expanduser()
    return [Path(file).expanduser() for file in masks]
