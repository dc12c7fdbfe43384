"""``segment list``: the networks, data sets and studies that can be named on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from segment.errors import UserError, did_you_mean
from segment.networks.padding import count_parameters
from segment.run.configure import make


def run(config: DictConfig) -> None:
    """Print what there is, as tables or as JSON."""
    rooms = {"networks": networks, "data": data_sets, "studies": studies}
    if config.what is not None and config.what not in rooms:
        near = did_you_mean(config.what, rooms)
        raise UserError(f"list {config.what}: there is no such list.{near} There are: {', '.join(rooms)}.")
    if config.format not in ("text", "json"):
        raise UserError(f"format={config.format}: must be text or json.")
    found = {name: room() for name, room in rooms.items() if config.what in (None, name)}
    if config.format == "json":
        print(json.dumps(found if config.what is None else found[config.what], indent=2))
        return
    console = Console(width=None if Console().is_terminal else 140)
    for name, rows in found.items():
        table = Table(title=name, title_justify="left", box=None, pad_edge=False)
        for column in rows[0] if rows else ():
            table.add_column(column, justify="right" if "parameters" in column else "left")
        for row in rows:
            table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v if v is not None else "-") for v in row.values()))
        console.print(table if rows else f"{name}: none yet")
        console.print()


def networks() -> list[dict[str, Any]]:
    """Name, parameters in 2D and 3D for one channel and two classes, and what the first comment says."""
    rows = []
    for name in options("network"):
        config = hydra.compose("train", [f"network={name}"])
        rows.append(
            {
                "name": name,
                **{f"parameters {d}D": parameters(config, d) for d in (2, 3)},
                "about": about("network", name),
            }
        )
    return rows


def parameters(config: DictConfig, dims: int) -> int | None:
    """Trainable scalars of the configured network for one channel and two classes; None where it has no such form."""
    try:
        with torch.device("meta"):
            return count_parameters(make(config, "network")(spatial_dims=dims, in_channels=1, out_channels=2))
    except (UserError, NotImplementedError):
        return None


def data_sets() -> list[dict[str, Any]]:
    """Name and what the first comment says."""
    return [{"name": name, "about": about("data", name)} for name in options("data")]


def studies() -> list[dict[str, Any]]:
    """Every run of every study, as named on the command line."""
    runs = []
    for study in options("experiments", ObjectType.GROUP):
        group = f"experiments/{study}"
        runs += [{"study": study, "name": f"+{group}={name}", "about": about(group, name)} for name in options(group)]
    return runs


def options(group: str, kind: ObjectType = ObjectType.CONFIG) -> list[str]:
    """Names within a group over all configuration folders."""
    return sorted(GlobalHydra.instance().config_loader().get_group_options(group, kind))


def about(group: str, name: str) -> str:
    """First comment of a configuration file that is not a directive."""
    search: ConfigSearchPath = GlobalHydra.instance().config_loader().get_search_path()
    for entry in search.get_path():
        scheme, _, folder = entry.path.partition("://")
        file = (
            Path(folder) / (group.removeprefix("experiments/") if scheme == "experiments" else group) / f"{name}.yaml"
        )
        if scheme in ("file", "experiments") and file.is_file():
            lines = [
                line.lstrip("# ").strip()
                for line in file.read_text(encoding="utf-8").splitlines()
                if line.startswith("#")
            ]
            return next((line for line in lines if line and not line.startswith("@")), "")
    return ""
