"""The available choices: the names in every configuration group and the description in each file."""

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
    """Names in a group over all configuration folders."""
    return sorted(GlobalHydra.instance().config_loader().get_group_options(group, kind))


def source(network: str) -> dict[str, str | None]:
    """The paper's URL and the rest of a network's first comment."""
    comment = about("network", network)
    link = LINK.search(comment)
    return {"paper": link[1] if link else None, "about": LINK.sub("", comment).strip()}


def about(group: str, name: str) -> str:
    """First comment of a configuration file that is not a directive; for a run of a study, it names the data set."""
    scheme = GROUP if group.startswith(f"{GROUP}/") else "file"
    for folder in search_folders(scheme):
        parent = folder / group.removeprefix(f"{GROUP}/")
        files = runs(parent).get(name, []) if scheme == GROUP else [parent / f"{name}.yaml"]
        if files and files[0].is_file():
            comment, *data_comments = map(first_comment, files)
            return comment.replace(AXIS, data_comments[0]) if data_comments else comment
    return ""


def first_comment(file: Path) -> str:
    """The first comment of a file that is not a Hydra directive; empty if there is none."""
    lines = (line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    comments = (line.lstrip("# ").strip() for line in lines)
    return next((comment for comment in comments if comment and not comment.startswith("@")), "")


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
    """The names of all studies."""
    return options(GROUP, ObjectType.GROUP)


def run_names(study: str) -> list[str]:
    """The names of a study's runs."""
    return options(f"{GROUP}/{study}")


def study_folders(study: str) -> list[Path]:
    """The folders of a study in search order: the user's, then the built-in one."""
    return [folder / study for folder in search_folders(GROUP) if (folder / study).is_dir()]
