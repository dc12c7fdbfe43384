"""What can be chosen: the names in every configuration group and what each file says of itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType

from segment.config.experiments import AXIS, GROUP, runs

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
    """First comment of a configuration file that is not a directive; that of a run names its data set."""
    scheme = GROUP if group.startswith(f"{GROUP}/") else "file"
    for folder in search_folders(scheme):
        place = folder / group.removeprefix(f"{GROUP}/")
        files = runs(place).get(name, []) if scheme == GROUP else [place / f"{name}.yaml"]
        if files and files[0].is_file():
            said, *of_data = map(first_comment, files)
            return said.replace(AXIS, of_data[0]) if of_data else said
    return ""


def first_comment(file: Path) -> str:
    """What a file says of itself."""
    lines = (line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next((said for line in lines if (said := line.lstrip("# ").strip()) and not said.startswith("@")), "")


def search_folders(scheme: str) -> list[Path]:
    """The configuration folders (``file``) or folders of studies (``experiments``) in search order."""
    search: ConfigSearchPath = GlobalHydra.instance().config_loader().get_search_path()
    found = (entry.path.partition("://") for entry in search.get_path())
    return [Path(folder) for kind, _, folder in found if kind == scheme]


def studies() -> list[dict[str, Any]]:
    """Every run of every study, as named on the command line."""
    found = []
    for study in options(GROUP, ObjectType.GROUP):
        group = f"{GROUP}/{study}"
        found += [{"study": study, "name": f"+{group}={name}", "about": about(group, name)} for name in options(group)]
    return found


def study_names() -> list[str]:
    """The studies that there are."""
    return options(GROUP, ObjectType.GROUP)


def run_names(study: str) -> list[str]:
    """The runs of a study."""
    return options(f"{GROUP}/{study}")


def study_folders(study: str) -> list[Path]:
    """The folders of a study in search order: the user's own, then the built-in one."""
    return [folder / study for folder in search_folders(GROUP) if (folder / study).is_dir()]
