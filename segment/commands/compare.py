"""``segment compare``: compare finished runs scan by scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from segment.config.options import CompareOptions, read_options
from segment.errors import UserError
from segment.evaluation.comparison.find import find_runs
from segment.text import print_json
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Read the runs, compare them, print the comparison and, if output is given, write it to that folder."""
    options = read_options(CompareOptions, config)
    folder = None if options.output is None else Path(options.output)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UserError(f"output={folder}: is a file. Give a folder for the tables.")
    runs = _texts("runs", options.runs) or []
    find_runs(runs)  # before pandas and SciPy are imported, which takes seconds
    if options.by == "dataset":
        _compare_datasets(runs, options, folder)
        return
    from segment.evaluation.comparison.compare import compare_runs
    from segment.evaluation.comparison.tables import as_json, text_report

    comparison = compare_runs(
        runs,
        options.metric,
        options.by,
        _texts("names", options.names),
        options.common,
        options.level,
        options.resamples,
        options.seed,
        options.split,
        options.margin,
    )
    if folder is not None:
        # Plotting libraries are slow to import, and a comparison that is only printed does not need them.
        from segment.report.comparison_page import write_comparison

        write_comparison(folder, comparison, options.resamples, options.seed)
    if options.format == "json":
        print_json(as_json(comparison))
    else:
        print(text_report(comparison), end="")
        if folder is not None:
            print(f"Report: {folder / 'report.html'}; tables: comparison.md, .tex, .csv and .json beside it")


def _compare_datasets(runs: Sequence[str], options: CompareOptions, folder: Path | None) -> None:
    """Compare the methods over several data sets, print the comparison and, if output is given, write it."""
    from segment.evaluation.comparison.across import as_json, compare_datasets, text_report
    from segment.evaluation.comparison.compare import check_arguments, smallest_difference

    if options.names is not None:
        raise UserError("names: with by=dataset, methods are named after what differs on each data set. Omit names.")
    check_arguments(options.metric, options.common, options.level, options.resamples, options.seed, options.margin)
    across = compare_datasets(runs, options.metric, options.common, options.level, options.split)
    if folder is not None:
        from segment.report.across_page import write_across

        margin = smallest_difference(options.margin, across.metric)
        write_across(folder, across, options.resamples, options.seed, margin)
    if options.format == "json":
        print_json(as_json(across))
        return
    print(text_report(across), end="")
    if folder is not None:
        print(f"Report: {folder / 'report.html'}; tables: comparison.csv and .json beside it, a folder per data set")


def _texts(key: str, value: object) -> Sequence[str] | None:
    """The strings of one value or of a list."""
    if value is None:
        return None
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        raise UserError(f"{key}={value}: give a list, {key}=[A,B].")
    return [str(item) for item in items]
