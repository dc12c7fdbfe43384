"""Reads the data set and the plan settings of a configuration."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from segment.command_line import assign
from segment.command_line import command as command_line
from segment.config.build import make
from segment.config.folders import BUILT_IN, ON_DISK
from segment.errors import UserError, did_you_mean
from segment.workflow.experiment import Command, DataSource, PlanSettings

if TYPE_CHECKING:  # importing nibabel takes half a second
    from segment.data.case import Dataset
    from segment.data.problems import Report

ORIGINS = ("all", "train")
"""Scans that a plan is made from."""


def read_data(config: DictConfig, command: Command) -> DataSource:
    """The data set that ``data`` describes.

    Args:
        config: With ``data`` and ``cache``, and ``splits`` and ``cache_dtype`` if the verb has them.
        command: The command.
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
        check=_check_command(config, command, root, splits),
        dtype=config.get("cache_dtype", "float32"),
    )


def root_of(config: DictConfig) -> Path:
    """The data set's root folder or file."""
    # Not get(): a missing root is a user error, reported by its key.
    return Path(str(config.data.root if "root" in list(config.data) else ".")).expanduser()


def splits_of(config: DictConfig) -> Path | None:
    """The splits file; a study's relative path is also looked up among the built-in experiments."""
    if not config.get("splits"):
        return None
    path = Path(str(config.splits)).expanduser()
    return path if path.exists() or not (BUILT_IN / path).is_file() else BUILT_IN / path


def _open(config: DictConfig, report: Report) -> Dataset:
    """Open the data set; a custom opener need not accept a reporter or the cache."""
    taken = inspect.signature(get_object(config.data["_target_"])).parameters
    given = {"report": report, "cache": Path(config.cache)}
    dataset: Dataset = make(config, "data", _partial_=True)(**{key: given[key] for key in given if key in taken})
    return dataset


def _check_command(config: DictConfig, command: Command, root: Path, splits: Path | None) -> str:
    """The command line that checks this command's data set."""
    more = [assign("splits", str(config.splits))] if splits else []
    if "data" not in command.choices:
        return command_line("check", "data=...", assign("data.root", str(root)), *more)
    own = [text for text in command.overrides if text.lstrip("+").startswith(("data.", "formats="))]
    return command_line("check", f"data={command.choices['data']}", *own, *more)


def read_plan_settings(options: Any, where: str = "plan.") -> PlanSettings:
    """The plan's settings.

    Args:
        options: A mapping with the fields of `PlanSettings`, or the path of a plan file instead.
        where: Prefix of the keys in messages.
    """
    if isinstance(options, str):
        return PlanSettings(file=Path(options), where=where)
    values: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(options), resolve=True)  # type: ignore[assignment]
    file, origin = values.get("file"), values.pop("from", None) or "all"
    if origin not in ORIGINS:
        near = did_you_mean(str(origin), ORIGINS)
        raise UserError(f"{where}from={origin}: there is no such choice.{near} Choices: {', '.join(ORIGINS)}.")
    values["origin"] = origin
    return PlanSettings(**values | {"file": None if file is None else Path(str(file)), "where": where})
