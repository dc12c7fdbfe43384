"""The data set and the plan that a configuration names."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from segment.command_line import assign, command
from segment.config.build import make
from segment.config.folders import BUILT_IN, ON_DISK
from segment.data.case import Dataset
from segment.data.problems import Report
from segment.workflow.experiment import Command, DataSource, PlanSettings


def read_data(config: DictConfig, given: Command) -> DataSource:
    """The data set that ``data`` names.

    Args:
        config: With ``data`` and ``cache``, and ``splits`` where the verb has it.
        given: The command.
    """
    data, root, splits = config.data, root_of(config), splits_of(config)
    source = data.get("source") or {}
    return DataSource(
        open=lambda report: _open(config, report),
        root=root,
        name=data.get("name"),
        licence=source.get("licence") or data.get("licence"),
        url=source.get("url"),
        made=data.get("_target_") != ON_DISK,
        cache=Path(config.cache),
        splits=splits,
        check=_check(config, given, root, splits),
    )


def root_of(config: DictConfig) -> Path:
    """Where the data set lies."""
    # Not get(): a root that was left out is the user's mistake, told by its key.
    return Path(str(config.data.root if "root" in list(config.data) else ".")).expanduser()


def splits_of(config: DictConfig) -> Path | None:
    """The splits file that was named; that of a study is looked for beside the built-in ones where it is not here."""
    if not config.get("splits"):
        return None
    named = Path(str(config.splits)).expanduser()
    return named if named.exists() or not (BUILT_IN / named).is_file() else BUILT_IN / named


def _open(config: DictConfig, report: Report) -> Dataset:
    """Open the data set; an opener of one's own need not take a reporter."""
    if "report" in inspect.signature(get_object(config.data["_target_"])).parameters:
        dataset: Dataset = make(config, "data", _partial_=True)(report=report)
    else:
        dataset = make(config, "data")
    return dataset


def _check(config: DictConfig, given: Command, root: Path, splits: Path | None) -> str:
    """The check of the data set that this command was given."""
    more = [assign("splits", str(config.splits))] if splits else []
    if "data" not in given.choices:
        return command("check", "data=...", assign("data.root", str(root)), *more)
    own = [text for text in given.overrides if text.lstrip("+").startswith(("data.", "formats="))]
    return command("check", f"data={given.choices['data']}", *own, *more)


def read_plan_settings(options: Any, where: str = "plan.") -> PlanSettings:
    """The plan's settings.

    Args:
        options: A mapping of `PlanSettings`, or the path of a plan file in place of all of them.
        where: Put before the keys in messages.
    """
    if isinstance(options, str):
        return PlanSettings(file=Path(options), where=where)
    given: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(options), resolve=True)  # type: ignore[assignment]
    file = given.get("file")
    return PlanSettings(**given | {"file": None if file is None else Path(str(file)), "where": where})
