"""The run folder: that one folder holds one configuration, and what the command chose of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from segment.config.arguments import typed
from segment.config.build import walk
from segment.config.run_name import checked_name, run_name
from segment.errors import UserError
from segment.files import read_mapping, write_text
from segment.inference.precision import precision

PLAN = ("file", "preset", "memory", "configuration", "spacing", "patch_size", "batch_size", "normalization")
# A run may be taken up again with other values of these and of what lies below: they do not change its numbers.
FREE = (
    "cache",
    "sampler.workers",
    "trainer.max_time",
    "trainer.log_every_n_steps",
    "data.root",
    "output",
    "name",
    "logger",
)


def settle(config: DictConfig) -> None:
    """Fill in what follows from the machine and from the other choices: precision, name, output."""
    settle_plan(config)
    with open_dict(config):
        config.name = checked_name(str(config.name)) if config.name else run_name(config)
        config.output = str(config.output or Path("runs") / config.name)
        config.trainer.precision = precision(config.trainer.precision, config.trainer.accelerator)
        # What was planned for a run that is there, so that it can be compared before the data are read.
        written = Path(config.output) / "config.yaml"
        config.planned = read_mapping(written).get("planned") if written.is_file() else None
        if "${" in str(config._get_node("planned")):
            raise UserError(f"{written}: planned holds '${{', which no plan does. It is not a file that segment wrote.")


def settle_plan(config: DictConfig) -> None:
    """``plan=plan.yaml`` names a plan file in the place of what the rules go by."""
    if isinstance(config.plan, str):
        with open_dict(config):
            config.plan = dict.fromkeys(PLAN) | {"file": config.plan}


def composed() -> dict[str, Any]:
    """What the command chose of every group and overrode; of a sweep, for this run. Nothing outside a command."""
    if not HydraConfig.initialized():
        return {}
    hydra = HydraConfig.get()
    choices = {group: name for group, name in hydra.runtime.choices.items() if name and not group.startswith("hydra/")}
    return {"choices": choices, "overrides": [typed(given) for given in hydra.overrides.task]}


def claim(folder: Path, config: DictConfig, write: bool = True) -> None:
    """See that a run folder is new or holds a run of this very configuration, and write config.yaml into it.

    Args:
        folder: The run folder; need not exist.
        config: The run's configuration.
        write: False to look only.

    Raises:
        UserError: When the folder holds something else, naming the keys that differ.
    """
    path = folder / "config.yaml"
    text = OmegaConf.to_yaml(config, resolve=True)
    if path.exists():
        changed = differences(read_mapping(path), config)
        if changed:
            shown = "; ".join(f"{key} is {there} there and {here} here" for key, there, here in changed[:3])
            raise UserError(
                f"output={folder}: holds a run of another configuration ({shown}). "
                "Give another output= or name=, or the same configuration to go on with it."
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"output={folder}: is there and is no run folder. Give another output= or name=.")
    if write:
        write_text(path, text)
        # What a kill left half-written; a strategy's child processes leave it to the first one.
        for partial in folder.rglob(".partial-*") if "LOCAL_RANK" not in os.environ else ():
            partial.unlink()


def differences(there: Mapping[str, Any], config: DictConfig) -> list[tuple[str, str | None, str | None]]:
    """In what a run folder's configuration is another one than this, apart from what does not change its numbers.

    Args:
        there: Content of its ``config.yaml``.
        config: A run's configuration.

    Returns:
        (dotted key, its value there, its value here), None where there is no such key, sorted by key.
    """
    before, now = _flat(there), _flat(OmegaConf.to_container(config, resolve=True))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return [
        (key, before.get(key), now.get(key))
        for key in changed
        if not any(f"{key}.".startswith(f"{free}.") for free in FREE)
    ]


def _flat(config: Any) -> dict[str, str]:
    """Dotted key to the value's text, without the paths inside the run folder: they follow from ``output``."""
    inside = f"{config.get('output')}/"
    values = {key: str(value) for key, value in walk(config) if not isinstance(value, dict | list)}
    return {key: value for key, value in values.items() if not f"{value}/".startswith(inside)}
