"""What the command does, for scripts and notebooks: thin functions that return their results.

Paths are strings or ``os.PathLike``. What a user can mend raises `segment.UserError` with one paragraph that says how.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from segment.errors import UserError
from segment.runs.folder import RunFolder

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from segment.inference.model import Model
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
        scans: One row a (scan, label), the columns of ``scans.csv``: case, split, fold, label, name, dice, iou, ...
        summary: Index (structure, metric), the foreground first; mean, sd, median, low and high (ends of the 95 %
            interval over scans), n.
    """

    scans: pd.DataFrame
    summary: pd.DataFrame


class Comparison(NamedTuple):
    """Methods against each other.

    Attributes:
        methods: Index (method, structure), best method first; rank, mean, low and high (ends of its interval), n.
        pairs: One row a (pair of methods, structure), the columns of ``comparison.csv``: first, second, structure,
            first_mean, second_mean, difference, low, high, p, p_holm, effect, won, tied, lost, n, shown, ...
        conclusion: One sentence.
        notes: Sentences on what limits the comparison.
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
        What its files tell: ``scans`` and ``table`` (pandas), ``summary``, ``config``, ``provenance``, ``path``. It can
        be given wherever a path is asked for: ``load_model(run)``.

    Raises:
        UserError: When the run diverged or is not finished, or a file is missing or damaged.
    """
    from segment.runs.folder import read_run
    from segment.runs.health import failure

    folder = Path(path).expanduser()
    if failed := failure(folder):
        raise UserError(f"{failed}: it holds no result. Give the folder of a finished run.")
    return read_run(folder)


def load_model(path: StrPath, trust: Sequence[str] = ()) -> Model:
    """Read a trained model; nothing in its files is executed.

    Args:
        path: A run folder or a model folder.
        trust: Modules of one's own whose networks the files may name.

    Returns:
        The model: ``model.predict(scan)`` gives the mask on the scan's own grid, as the model was scored.

    Raises:
        UserError: When a file is missing, damaged or of a newer version, or names a network outside trusted modules.
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
    output: StrPath | None = None,
) -> Evaluation:
    """Score masks from any program against their references, each pair on its own grid.

    Args:
        predictions: A folder of masks, matched with the references by file name; or masks, matched by their place.
        references: Likewise.
        labels: Name to value, or to the list of values whose union is a region; None: those of a ``dataset.json`` in or
            beside the folder of references, else the values found.
        region_order: With regions, the value that each writes into a mask; None where it follows from them.
        ignore_extra: Pass over predictions without a reference.
        output: Folder that takes ``scans.csv`` and ``summary.json``; None writes nothing.

    Returns:
        ``scans, summary``, two tables. A structure absent in both masks has no score; absent in one of them it has 0.

    Raises:
        UserError: Masks are missing, cannot be read, lie on another grid than their references or hold values that no
            label has.
    """
    from segment.evaluation.evaluate import evaluate as score
    from segment.evaluation.evaluate import write_evaluation
    from segment.runs.tables import summary_table

    scans, summary = score(_masks(predictions), _masks(references), labels, region_order, ignore_extra=ignore_extra)
    if output is not None:
        write_evaluation(Path(output).expanduser(), scans, summary)
    return Evaluation(scans, summary_table(summary))


def compare(
    runs: str | Sequence[StrPath],
    *,
    metric: str = "dice",
    by: str | None = None,
    names: Sequence[str] | None = None,
    common: bool = False,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 12345,
    output: StrPath | None = None,
) -> Comparison:
    """Compare finished runs scan by scan.

    Args:
        runs: Run folders, what `load_run` gives, tables of scans, or patterns such as ``runs/*``; at least two.
        metric: Column of ``scans.csv``; less is better where it ends in ``_mm``.
        by: ``run``: each run is a method; ``configuration``: folds and seeds of one configuration are one; None: the
            latter where it leaves two methods.
        names: Names of the methods in order; None: made of what differs.
        common: Compare the scans that all runs have, where not all have the same.
        level: Level of the intervals, from 0.5 to below 1; ``1 - level`` is that of the tests.
        resamples: Resamples of the scans, for the intervals and the ranking, from 100.
        seed: Their seed.
        output: Folder that takes ``report.html`` and ``comparison.csv``, ``.md``, ``.tex``, ``.json``; None: nothing.

    Returns:
        ``methods, pairs, conclusion, notes``: two tables, a sentence, and what limits the comparison.

    Raises:
        UserError: A run cannot be read, or the runs cannot be paired scan by scan.
    """
    from segment.evaluation.comparison.compare import compare_runs
    from segment.evaluation.comparison.frames import methods_frame, pairs_frame

    given = [runs] if isinstance(runs, str | os.PathLike) else runs
    found = compare_runs([os.fspath(run) for run in given], metric, by, names, common, level, resamples, seed)
    if output is not None:
        from segment.report.comparison_page import write_comparison

        write_comparison(Path(output).expanduser(), found, resamples, seed)
    return Comparison(methods_frame(found), pairs_frame(found), found.conclusion, found.notes)


def build(group: str, name: str, *overrides: str, **arguments: Any) -> Any:
    """Make one part by its name on the command line.

        network = build("network", "mednext_s", in_channels=1, out_channels=3)
        optimizer = build("optimizer", "sgd", params=network.parameters(), lr=0.01)

    Args:
        group: ``network``, ``loss``, ``optimizer``, ``scheduler``, ``augment``, ``inference`` or ``data``.
        name: One of the group's choices, your own in ``conf/`` among them.
        *overrides: As on the command line: ``network.encoder=resnet50``, ``trainer.max_steps=100``.
        **arguments: Further arguments of its constructor, in place of those of its file. A network takes
            ``in_channels``, ``out_channels`` and ``spatial_dims`` (3 where it is left out).

    Returns:
        The object, such as a ``torch.nn.Module`` or, for ``data``, the data set. Without what it acts upon, an
        optimizer (``params``) or a scheduler (``optimizer``) is a function that takes it. A network with deep
        supervision gives a list of logits while training, finest first, which a loss takes within
        `segment.losses.deep_supervision.AnyScale`.

    Raises:
        UserError: When there is no such group, choice or argument, with the nearest right name.
    """
    from segment.config.calls import part

    return part(group, name, overrides, arguments)


def datamodule(*overrides: str, augmented: bool = False) -> PatchDataModule:
    """Check, plan and prepare a data set as `train` does, for a training loop of one's own, with or without a Trainer.

        data = datamodule("data=auto", "data.root=FOLDER", "fold=0")
        for batch in data.train_dataloader():
            loss = criterion(network(batch["image"]), batch["reference"])

    Args:
        *overrides: As for ``segment train``; ``data``, ``fold``, ``plan``, ``sampler``, ``augment``, ``seed`` and
            ``cache`` have a meaning here.
        augmented: Whether the loader augments the patches as ``augment`` says; else they are as the sampler cuts them.

    Returns:
        ``train_dataloader()`` gives ``sampler.steps_per_epoch`` batches a pass: image (batch, channel, *patch) float32,
        reference (batch, 1, *patch) class indices, spatial axes z, y, x. ``dataset``, ``plan``, and ``train`` and
        ``val``, the cases of the fold, say what a network needs to know.

    Raises:
        UserError: When the data set is not sound, or a key or value is wrong.
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
    """Train and score one fold, or every fold, as ``segment train`` does; on an existing run folder, go on with it.

        run = train("data=hippocampus", "network=mednext_s", "fold=0", "output=runs/mine")

    Args:
        *overrides: As on the command line.
        callbacks: Lightning callbacks, told of the training beside those of the configuration; with one fold only.

    Returns:
        The finished run, as `load_run` gives it. Progress and notes are printed to stderr.

    Raises:
        UserError: When a key, a value or the data set is wrong, or the training diverged.
        KeyboardInterrupt: When it was stopped; the same call goes on from there.
    """
    from segment.config.calls import experiment_of
    from segment.workflow.cross_validate import cross_validate
    from segment.workflow.train import train as train_fold

    experiment = experiment_of(overrides)
    if experiment.trainer.fast_dev_run:
        raise UserError("trainer.fast_dev_run: keeps no run that could be returned. Leave it to the command.")
    with _stoppable(), contextlib.redirect_stdout(sys.stderr):
        if experiment.fold == "all":
            cross_validate(experiment, train_fold)
        else:
            train_fold(experiment, callbacks)
    return load_run(experiment.output)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Turn Lightning's end of the process after Ctrl-C back into the interrupt, which a notebook outlives."""
    try:
        yield
    except SystemExit as end:
        raise KeyboardInterrupt("stopped; the same call goes on from here") from end


def _masks(given: StrPath | Sequence[StrPath]) -> Path | list[Path]:
    """One path, or several."""
    if isinstance(given, str | os.PathLike):
        return Path(given).expanduser()
    return [Path(file).expanduser() for file in given]
