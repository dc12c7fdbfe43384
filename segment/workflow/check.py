"""Opens and checks the data set that a configuration names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment.config import arguments
from segment.config.arguments import assign, typed
from segment.config.build import make
from segment.config.folders import BUILT_IN
from segment.data.case import Dataset
from segment.data.check.dataset import Checked, check_dataset
from segment.data.problems import Report
from segment.errors import UserError


def sound(config: DictConfig, hashes: Mapping[str, str] | None = None) -> Checked:
    """Open and check the training scans of a data set, for a verb that needs them sound.

    Args:
        config: A configuration with ``data`` and ``cache``.
        hashes: SHA-256 of files that are known already, by path.

    Returns:
        The data set, the facts about every training scan, the hash of every file, and the warnings.

    Raises:
        UserError: One paragraph with the first errors and the command that lists all of them.
    """
    checked = inspect_data(config, tests=False, hashes=hashes)
    checked.require_sound(command(config))
    return checked


def inspect_data(config: DictConfig, tests: bool, hashes: Mapping[str, str] | None = None) -> Checked:
    """Check what ``data`` names, with progress on stderr.

    Args:
        config: A configuration with ``data``, ``cache`` and ``splits``.
        tests: Whether test scans are read too.
        hashes: SHA-256 of files that are known already, by path.

    Raises:
        UserError: When there is nothing at the data set's root.
    """
    root = root_of(config)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("checking scans", total=None)
        checked = check_dataset(
            lambda report: open_data(config, report),
            root,
            Path(config.cache) / "surveys",
            hashes,
            splits_of(config),
            tests,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if checked.dataset is None and not root.exists():
        raise UserError(str(checked.errors[0]))
    return checked


def open_data(config: DictConfig, report: Report) -> Dataset:
    """Open what ``data`` names; what is not sound goes to the reporter, where the data set's opener takes one."""
    if "report" in inspect.signature(get_object(config.data["_target_"])).parameters:
        dataset: Dataset = make(config, "data", _partial_=True)(report=report)
    else:
        dataset = make(config, "data")
    return dataset


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


def command(config: DictConfig) -> str:
    """The check of the data set that this verb was given."""
    splits = [assign("splits", str(config.splits))] if splits_of(config) else []
    if not HydraConfig.initialized():
        return arguments.command("check", "data=...", assign("data.root", str(root_of(config))), *splits)
    runtime = HydraConfig.get()
    given = [typed(text) for text in runtime.overrides.task if text.lstrip("+").startswith(("data.", "formats="))]
    return arguments.command("check", f"data={runtime.runtime.choices['data']}", *given, *splits)
