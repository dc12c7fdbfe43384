"""``segment compare``: compare finished runs scan by scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from segment.config.options import CompareOptions, read_options, texts
from segment.errors import UserError, did_you_mean
from segment.evaluation.comparison.find import find_runs
from segment.text import print_json
from segment.workflow.experiment import NO_COMMAND, Command

BY = ("run", "configuration", "dataset")


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Read the runs, compare them, print the comparison and, if output is given, write it to that folder."""
    options = read_options(CompareOptions, config)
    folder = None if options.output is None else Path(options.output)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file. Give a folder for the tables.")
    runs = texts("runs", options.runs) or []
    metrics = texts("metric", options.metric) or []
    if not metrics or len(set(metrics)) < len(metrics):
        raise UserError(f"metric=[{','.join(metrics)}]: give different columns of scans.csv, such as [dice,hd95_mm].")
    by, column = _grouping(texts("by", options.by) or [], options.table)
    wished = _wished(options.detect, metrics)
    find_runs(runs)  # before pandas and SciPy are imported, which takes seconds
    if by == "dataset":
        if len(metrics) > 1 or column is not None or wished:
            raise UserError("by=dataset: compares by one metric, without subgroups and without detect=.")
        _compare_datasets(runs, metrics, options, folder)
        return
    from segment.evaluation.comparison.compare import compare_runs
    from segment.evaluation.comparison.subgroups import sample_size_notes, with_subgroups
    from segment.evaluation.comparison.tables import as_json, text_report

    comparisons = compare_runs(
        runs,
        metrics,
        by,
        texts("names", options.names),
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
    if folder is not None:
        # Plotting libraries are slow to import, and a comparison that is only printed does not need them.
        from segment.report.comparison_page import write_comparison

        write_comparison(folder, comparisons, options.resamples, options.seed)
    if options.format == "json":
        found = [as_json(comparison) for comparison in comparisons]
        print_json(found if isinstance(options.metric, list) else found[0])
    else:
        print(text_report(*comparisons), end="")
        if folder is not None:
            print(f"Report: {folder / 'report.html'}; tables: comparison.md, .tex, .csv and .json beside it")


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
