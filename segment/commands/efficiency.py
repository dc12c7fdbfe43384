"""``segment efficiency``: how many labelled scans a pretraining saves, from finished runs."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from segment.config.options import EfficiencyOptions, read_options, texts
from segment.text import print_json
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_folder


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Compare runs from scratch and from weights, print the table and write the page."""
    options = read_options(EfficiencyOptions, config)
    folder = None if options.output is None else Path(options.output)
    if folder is not None:
        require_folder("output", folder)
    from segment.evaluation.comparison.find import find_runs
    from segment.evaluation.label_efficiency import label_efficiency
    from segment.runs.folder import read_run

    found = label_efficiency([read_run(path) for path in find_runs(texts("runs", options.runs) or [])])
    if folder is not None:
        from segment.report.label_page import write_label_page

        write_label_page(folder, found)
    if options.format == "json":
        print_json(found.as_json())
    else:
        print(found.text())
        if folder is not None:
            print(f"Report: {folder / 'report.html'}; efficiency.json beside it")
