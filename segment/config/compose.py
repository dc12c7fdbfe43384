"""Composes configurations: Hydra's search path, resolvers, and the command of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict

from segment.command_line import typed
from segment.config import sweep
from segment.config.experiments import ExperimentsSource
from segment.config.folders import config_folders
from segment.workflow.experiment import Command


def _planned(key: str, default: Any, *, _root_: DictConfig) -> Any:
    """``${planned:KEY,DEFAULT}``: the plan's value for a network or a loss; the default if the plan has none."""
    value = (_root_.get("planned") or {}).get(key)
    return default if value is None or value in ("", []) else value


OmegaConf.register_new_resolver("planned", _planned, replace=True)


def register(folders: Sequence[tuple[str, Path]] | None = None) -> None:
    """Make Hydra search these (scheme, folder) roots in order; by default `config_folders`."""
    roots = config_folders() if folders is None else folders

    class SegmentSearchPath(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for scheme, folder in roots:
                search_path.append(provider="segment", path=f"{scheme}://{folder}")

    plugins = Plugins.instance()
    known = plugins.plugin_type_to_subclass_list[SearchPathPlugin]
    known[:] = [plugin for plugin in known if plugin.__name__ != "SegmentSearchPath"]
    plugins.register(SegmentSearchPath)
    plugins.register(ExperimentsSource)
    sweep.register_optuna()


def compose(verb: str, overrides: Sequence[str], folders: Sequence[tuple[str, Path]] | None = None) -> DictConfig:
    """Compose a configuration in Python, as the command line would.

    Args:
        verb: Name of the primary configuration.
        overrides: Hydra overrides.
        folders: (scheme, folder) of the configuration roots in search order; by default `config_folders`.
    """
    return compose_command(verb, overrides, folders)[0]


def compose_command(
    verb: str, overrides: Sequence[str], folders: Sequence[tuple[str, Path]] | None = None
) -> tuple[DictConfig, Command]:
    """Compose a configuration in Python, and return the equivalent command too; see `compose`."""
    register(folders)
    with hydra.initialize(version_base="1.3", config_path=None):
        return compose_further(verb, overrides)


def compose_further(verb: str, overrides: Sequence[str]) -> tuple[DictConfig, Command]:
    """Compose a further configuration within a running command, as a separate command would.

    Args:
        verb: Name of the primary configuration.
        overrides: As Hydra reads them.

    Returns:
        The configuration without Hydra's own node, and the command.
    """
    composed = hydra.compose(verb, list(overrides), return_hydra_config=True)
    command = composed_command(verb, composed.hydra)
    with open_dict(composed):
        del composed["hydra"]
    return composed, command


def composed_command(verb: str, node: Any) -> Command:
    """The command that composed a configuration, derived from Hydra's own node in it."""
    choices = {str(group): name for group, name in node.runtime.choices.items() if name}
    overrides = tuple(typed(override) for override in node.overrides.task)
    return Command(
        arguments=(verb, *overrides),
        overrides=overrides,
        choices={group: name for group, name in choices.items() if not group.startswith("hydra/")},
        nested=True,
    )
