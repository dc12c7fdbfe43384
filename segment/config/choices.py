"""What can be chosen: the names in every configuration group and what each file says of itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType

LINK = re.compile(r",?\s*(https?://\S+)")


def options(group: str, kind: ObjectType = ObjectType.CONFIG) -> list[str]:
    """Names within a group over all configuration folders."""
    return sorted(GlobalHydra.instance().config_loader().get_group_options(group, kind))


def source(network: str) -> dict[str, str | None]:
    """The paper's address and the rest of what a network's first comment says."""
    said = about("network", network)
    link = LINK.search(said)
    return {"paper": link[1] if link else None, "about": LINK.sub("", said).strip()}


def about(group: str, name: str) -> str:
    """First comment of a configuration file that is not a directive."""
    scheme = "experiments" if group.startswith("experiments/") else "file"
    for folder in search_folders(scheme):
        file = folder / group.removeprefix("experiments/") / f"{name}.yaml"
        if file.is_file():
            lines = [
                line.lstrip("# ").strip()
                for line in file.read_text(encoding="utf-8").splitlines()
                if line.startswith("#")
            ]
            return next((line for line in lines if line and not line.startswith("@")), "")
    return ""


def search_folders(scheme: str) -> list[Path]:
    """The configuration folders (``file``) or folders of studies (``experiments``) in search order."""
    search: ConfigSearchPath = GlobalHydra.instance().config_loader().get_search_path()
    found = (entry.path.partition("://") for entry in search.get_path())
    return [Path(folder) for kind, _, folder in found if kind == scheme]


def studies() -> list[dict[str, Any]]:
    """Every run of every study, as named on the command line."""
    runs = []
    for study in options("experiments", ObjectType.GROUP):
        group = f"experiments/{study}"
        runs += [{"study": study, "name": f"+{group}={name}", "about": about(group, name)} for name in options(group)]
    return runs


def study_names() -> list[str]:
    """The studies that there are."""
    return options("experiments", ObjectType.GROUP)


def run_names(study: str) -> list[str]:
    """The runs of a study."""
    return options(f"experiments/{study}")


def study_folders(study: str) -> list[Path]:
    """The folders of a study in search order: the user's own, then the built-in one."""
    return [folder / study for folder in search_folders("experiments") if (folder / study).is_dir()]
