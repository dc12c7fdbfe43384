"""Composes configurations: where Hydra looks for them, and what they may refer to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from segment.config import sweep
from segment.config.experiments import ExperimentsSource
from segment.config.folders import config_folders


def _planned(key: str, default: Any, *, _root_: DictConfig) -> Any:
    """``${planned:KEY,DEFAULT}``: what the plan says of a network or a loss; the default where it says nothing."""
    value = (_root_.get("planned") or {}).get(key)
    return default if value is None or value in ("", []) else value


OmegaConf.register_new_resolver("planned", _planned, replace=True)


def register(folders: Sequence[tuple[str, Path]] | None = None) -> None:
    """Make Hydra search these (scheme, folder) roots, first one first; by default `config_folders`."""
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
    register(folders)
    with hydra.initialize(version_base="1.3", config_path=None):
        return hydra.compose(verb, list(overrides), return_hydra_config=False)
