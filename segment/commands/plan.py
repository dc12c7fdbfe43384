"""``segment plan``: survey a data set, plan it by nnU-Net's rules and write the plan with the reasons."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from segment.config.build import check_targets
from segment.config.data import read_data, read_plan_settings
from segment.errors import UserError
from segment.preprocessing.plan import DatasetPlan
from segment.preprocessing.plan_file import write_plan
from segment.text import printable, table
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
    print(f"{printable(plan.dataset)}: {plan.preset}, {plan.memory:g} GB, {plan.scans} scans")
    print(configurations(plan))
    print(f"{output}: the plan, with the reason for each decision. Edit it as needed.")


def configurations(plan: DatasetPlan) -> str:
    """A table of the configurations."""
    rows = [
        [
            name,
            "x".join(f"{mm:.3g}" for mm in entry.spacing),
            "x".join(map(str, entry.patch_size)),
            str(entry.batch_size),
            str(len(entry.strides)),
            ", ".join(dict.fromkeys(entry.normalization)),
        ]
        for name, entry in plan.configurations.items()
    ]
    heads = ["configuration", "spacing (mm)", "patch", "batch", "stages", "normalization"]
    return table(heads, rows, left=["configuration", "normalization"])
