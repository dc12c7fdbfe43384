"""``segment evaluate``: score masks from any program."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment.config.build import check_targets
from segment.config.metrics import metrics_of
from segment.config.options import EvaluateOptions, read_options
from segment.errors import UserError
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_folder


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Pair two folders by file name, score them, write the results and their page, and print the table."""
    options = read_options(EvaluateOptions, config)
    check_targets(config)
    metrics = metrics_of(config)
    for key, path in (("predictions", options.predictions), ("references", options.references)):
        if not Path(path).exists():
            raise UserError(f"{key}={path}: there is no such file or folder.")
    require_folder("output", Path(options.output))
    labels = options.labels
    if labels is not None and not isinstance(labels, dict):
        raise UserError(f"labels={labels}: give names and values, such as 'labels={{background: 0, liver: 1}}'.")
    # Here, since pandas takes a second to import.
    from segment.evaluation.evaluate import evaluate, write_evaluation
    from segment.report.run_page import write_evaluation_page
    from segment.runs.summary import text_table

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scoring", total=None)
        found = evaluate(
            Path(options.predictions),
            Path(options.references),
            labels,
            options.region_order,
            options.split,
            options.fold,
            options.ignore_extra,
            metrics,
            lambda done, total: progress.update(task, completed=done, total=total),
            command.arguments,
            options.tolerance,
        )
    output = Path(options.output)
    write_evaluation(output, found)
    write_evaluation_page(output)
    print(text_table(found.summary, found.scans))
    print(f"Report   {output / 'report.html'}\nResults  {output / 'scans.csv'} and {output / 'summary.json'}")
