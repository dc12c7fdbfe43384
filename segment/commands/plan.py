"""``segment plan``: survey a data set, plan it by nnU-Net's rules and write the plan with the reasons."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segment.config.build import check_targets
from segment.config.data import read_data, read_plan_settings
from segment.errors import UserError
from segment.preprocessing.plan import DatasetPlan
from segment.preprocessing.plan_file import write_plan
from segment.text import printable
from segment.workflow.check import checked_data
from segment.workflow.experiment import NO_COMMAND, Command
from segment.workflow.plan import decide


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Survey every labelled scan, make the plan, write the plan file and print its configurations."""
    check_targets(config)
    output = Path(config.output)
    if output.suffix not in (".yaml", ".yml"):
        raise UserError(f"output={output}: a plan is a YAML file. Give a name that ends with .yaml.")
    if output.exists() and not config.overwrite:
        raise UserError(f"output={output}: exists and may have been edited. Give another name, or overwrite=true.")
    options = {key: config[key] for key in ("preset", "memory", "spacing", "patch_size", "batch_size", "normalization")}
    checked = checked_data(read_data(config, command))
    assert checked.dataset is not None
    plan = decide(read_plan_settings(options, where=""), checked.dataset, checked.surveys)
    write_plan(output, plan)
    Console().print(table(plan))
    print(f"{output}: the plan, with the reason for each decision. Edit it as needed.")


def table(plan: DatasetPlan) -> Table:
    """A table of the configurations."""
    title = f"{escape(printable(plan.dataset))}: {plan.preset}, {plan.memory:g} GB, {plan.scans} scans"
    rows = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("configuration", "spacing (mm)", "patch", "batch", "stages", "normalization"):
        rows.add_column(heading, no_wrap=True)
    for name, entry in plan.configurations.items():
        rows.add_row(
            name,
            "x".join(f"{mm:.3g}" for mm in entry.spacing),
            "x".join(map(str, entry.patch_size)),
            str(entry.batch_size),
            str(len(entry.strides)),
            ", ".join(dict.fromkeys(entry.normalization)),
        )
    return rows
