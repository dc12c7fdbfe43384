"""``segment suggest``: which scans to label next."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment.config.build import check_targets
from segment.config.data import read_data
from segment.config.options import SuggestOptions, read_options
from segment.inference.limits import check_accelerator, find_model
from segment.text import print_json, printable, table
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.values import require_number


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Rank the scans without masks and print the first ones."""
    options = read_options(SuggestOptions, config)
    check_targets(config)
    require_number("n", options.n, 1, whole=True)
    check_accelerator(options.accelerator)
    folder = find_model(Path(options.model))
    from segment.inference.model import load_model
    from segment.workflow.suggest import suggest

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking at scans", total=None)
        found = suggest(
            load_model(folder, options.trust),
            read_data(config, command),
            options.n,
            options.by,
            options.accelerator,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if options.format == "json":
        print_json([vars(one) for one in found])
        return
    rows = [[printable(one.case), f"{one.uncertainty:.4f}", printable(one.image)] for one in found]
    print(table(["scan", "mean entropy", "image"], rows, left=["scan", "image"]))
