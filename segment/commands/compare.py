"""``segment compare``: compare finished runs scan by scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment.command_line import assign
from segment.command_line import command as command_line
from segment.config.options import CompareOptions, read_options, texts
from segment.errors import UserError, did_you_mean
from segment.evaluation.comparison.find import find_runs
from segment.inference.limits import check_accelerator
from segment.text import print_json
from segment.workflow.experiment import NO_COMMAND, Command

if TYPE_CHECKING:  # importing pandas and SciPy takes seconds
    from segment.evaluation.comparison.best import Best
    from segment.evaluation.comparison.result import Comparison

BY = ("run", "configuration", "dataset")


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Read the runs, compare them, print the comparison and, if output is given, write it to that folder."""
    options = read_options(CompareOptions, config)
    folder = None if options.output is None else Path(options.output)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file. Give a folder for the tables.")
    runs = texts("runs", options.runs) or []
    metrics = _metrics(options)
    by, column = _grouping(texts("by", options.by) or [], options.table)
    wished = _wished(options.detect, metrics)
    find_runs(runs)  # before pandas and SciPy are imported, which takes seconds
    if by == "dataset":
        if len(metrics) > 1 or column is not None or wished:
            raise UserError("by=dataset: compares by one metric, without subgroups and without detect=.")
        _compare_datasets(runs, metrics, options, folder)
        return
    names = texts("names", options.names)
    members: dict[str, tuple[str, ...]] = {}
    if options.ensembles:
        runs, by, members = _with_ensembles(runs, metrics, by, names, options, folder, command)
        names = [*members]
    from segment.evaluation.comparison.best import choose_best
    from segment.evaluation.comparison.compare import compare_runs
    from segment.evaluation.comparison.subgroups import sample_size_notes, with_subgroups

    comparisons = compare_runs(
        runs,
        metrics,
        by,
        names,
        options.common,
        options.level,
        options.resamples,
        options.seed,
        options.split,
        options.margin,
    )
    if column is not None:
        comparisons = tuple(
            with_subgroups(
                one, column, None if options.table is None else Path(options.table), options.resamples, options.seed
            )
            for one in comparisons
        )
    comparisons = tuple(
        replace(one, notes=(*one.notes, *sample_size_notes(one, wished[one.metric.name])))
        if one.metric.name in wished
        else one
        for one in comparisons
    )
    best = choose_best(comparisons[0], members) if members else None
    if folder is not None:
        # Plotting libraries are slow to import, and a comparison that is only printed does not need them.
        from segment.report.comparison_page import write_comparison

        write_comparison(folder, comparisons, options.resamples, options.seed)
    _print(comparisons, best, options, folder)


def _print(comparisons: Sequence[Comparison], best: Best | None, options: CompareOptions, folder: Path | None) -> None:
    """Print a comparison, and which run or ensemble is best if ensembles were asked for."""
    from segment.evaluation.comparison.tables import as_json, text_report

    if options.format == "json":
        found = [as_json(comparison) for comparison in comparisons]
        found[0] |= {"best": best.as_dict()} if best else {}
        print_json(found if isinstance(options.metric, list) else found[0])
        return
    print(text_report(*comparisons), end="")
    if folder is not None:
        print(f"Report: {folder / 'report.html'}; tables: comparison.md, .tex, .csv and .json beside it")
    if best:
        model = best.runs[0] if len(best.runs) == 1 else f"[{','.join(best.runs)}]"
        predict = command_line("predict", assign("model", model), "input=FILE_OR_FOLDER", "output=FOLDER")
        print(f"{best.sentence}\nPredict with it: {predict}")


def _metrics(options: CompareOptions) -> Sequence[str]:
    metrics = texts("metric", options.metric) or []
    if not metrics or len(set(metrics)) < len(metrics):
        raise UserError(f"metric=[{','.join(metrics)}]: give different columns of scans.csv, such as [dice,hd95_mm].")
    return metrics


def _with_ensembles(
    runs: Sequence[str],
    metrics: Sequence[str],
    by: str | None,
    names: Sequence[str] | None,
    options: CompareOptions,
    folder: Path | None,
    command: Command,
) -> tuple[list[str], str, dict[str, tuple[str, ...]]]:
    """The runs and the ensembles of every two, how they form methods, and the runs of every method by its name."""
    if folder is None:
        raise UserError("ensembles=true: give output=FOLDER, where the masks of the ensembles go.")
    if by not in (None, "run"):
        raise UserError(f"by={by}: with ensembles=true every run is a method. Leave it out.")
    check_accelerator(options.accelerator)
    from segment.evaluation.comparison.methods import read_methods
    from segment.workflow.ensembles import ensemble_metrics, write_ensembles

    scored = ensemble_metrics(metrics)
    single = read_methods(runs, metrics[0], "run", names, options.common, options.split)
    paths = [method.runs[0].path for method in single.methods]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("ensembles")
        found = write_ensembles(
            paths,
            folder / "ensembles",
            scored,
            options.trust,
            options.accelerator,
            command.arguments,
            lambda name, done, total: progress.update(task, description=name, completed=done, total=total),
        )
    titles = [method.name for method in single.methods]
    members: dict[str, tuple[str, ...]] = {title: (str(path),) for title, path in zip(titles, paths, strict=True)}
    for one in found:
        title = " + ".join(titles[place] for place in one.members)
        members[title] = tuple(str(paths[place]) for place in one.members)
    return [*map(str, paths), *(str(one.folder) for one in found)], "run", members


def _compare_datasets(
    runs: Sequence[str], metrics: Sequence[str], options: CompareOptions, folder: Path | None
) -> None:
    """Compare the methods over several data sets, print the comparison and, if output is given, write it."""
    from segment.evaluation.comparison.across import as_json, compare_datasets, text_report
    from segment.evaluation.comparison.compare import check_arguments, margins_of, smallest_difference

    if options.names is not None:
        raise UserError("names: with by=dataset, methods are named after what differs on each data set. Omit names.")
    check_arguments(options.common, options.level, options.resamples, options.seed)
    (given,) = margins_of(options.margin, metrics)
    across = compare_datasets(runs, metrics[0], options.common, options.level, options.split)
    if folder is not None:
        from segment.report.across_page import write_across

        margin = smallest_difference(given, across.metric)
        write_across(folder, across, options.resamples, options.seed, margin)
    if options.format == "json":
        print_json(as_json(across))
        return
    print(text_report(across), end="")
    if folder is not None:
        print(f"Report: {folder / 'report.html'}; tables: comparison.csv and .json beside it, a folder per data set")


def _grouping(by: Sequence[str], table: str | None) -> tuple[str | None, str | None]:
    """How runs form methods, and the column of the subgroups of scans."""
    methods = [value for value in by if value in BY]
    columns = [value for value in by if value not in BY]
    if len(methods) > 1 or len(columns) > 1:
        raise UserError(f"by=[{','.join(by)}]: give run or configuration, and one column of subgroups: by=[run,site].")
    if columns and table is None and (near := did_you_mean(columns[0], BY)):
        raise UserError(f"by={columns[0]}: unknown value.{near} A column of subgroups needs its table, table=FILE.csv.")
    return next(iter(methods), None), next(iter(columns), None)


def _wished(detect: object, metrics: Sequence[str]) -> dict[str, float]:
    """The difference to be found by every metric that has one."""
    found = {str(key): value for key, value in detect.items()} if isinstance(detect, dict) else {}
    if not isinstance(detect, dict) and detect is not None:
        found = {metrics[0]: detect}
    for name, value in found.items():
        if name not in metrics or isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"detect={detect}: give a difference, such as 0.01, or 'detect={{dice: 0.01}}' by metric.")
    return {name: float(value) for name, value in found.items()}
