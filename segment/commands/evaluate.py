"""``segment evaluate``: score masks from any program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from segment.config.build import check_targets
from segment.config.metrics import metrics_of
from segment.errors import UserError
from segment.evaluation.evaluate import evaluate, write_evaluation
from segment.report.run_page import write_evaluation_page
from segment.runs.summary import text_table
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Pair two folders by file name, score them, write the results and their page, and print the table."""
    check_targets(config)
    metrics = metrics_of(config)
    labels: Any = None if config.labels is None else OmegaConf.to_container(config.labels)
    if labels is not None and not isinstance(labels, dict):
        raise UserError(f"labels={config.labels}: give names and values, such as 'labels={{background: 0, liver: 1}}'.")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scoring", total=None)
        found = evaluate(
            Path(config.predictions),
            Path(config.references),
            labels,
            config.region_order,
            config.split,
            config.fold,
            config.ignore_extra,
            metrics,
            lambda done, total: progress.update(task, completed=done, total=total),
            command.arguments,
        )
    output = Path(config.output)
    write_evaluation(output, found)
    write_evaluation_page(output)
    print(text_table(found.summary, found.scans))
    print(f"Report   {output / 'report.html'}\nResults  {output / 'scans.csv'} and {output / 'summary.json'}")
