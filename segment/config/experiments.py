"""Makes a folder of studies available as the Hydra group ``experiments/STUDY``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

GROUP = "experiments"
RULES = "verdict.yaml"
"""File of a study that is no run: how its figures are judged."""

AXIS = "DATA"
"""Placeholder, in the name and first comment of a method's file, for each file in the study's ``data``."""


def runs(study: Path) -> dict[str, list[Path]]:
    """Every run in a study's folder, with the files that define it.

    ``unet.yaml`` defines the run ``unet``; ``DATA_unet.yaml`` defines one run per file in ``data``, such as
    ``liver_unet`` for ``data/liver.yaml``.
    """
    own, products = {}, {}
    for file in sorted(set(study.glob("*.yaml")) - {study / RULES}):
        axis = sorted(study.glob("data/*.yaml")) if AXIS in file.stem else []
        products.update({file.stem.replace(AXIS, data.stem): [file, data] for data in axis})
        if not axis:
            own[file.stem] = [file]
    return products | own


class ExperimentsSource(FileConfigSource):
    """Exposes a folder as the group ``experiments``: a run of ``STUDY`` is ``experiments/STUDY/RUN``."""

    @staticmethod
    def scheme() -> str:
        """Scheme of the search-path entry."""
        return "experiments"

    @staticmethod
    def _inside(config_path: str) -> str | None:
        head, _, rest = config_path.strip("/").partition("/")
        return rest if head == GROUP else None

    def _files(self, config_path: str) -> list[Path]:
        """The files that define a configuration; empty if there is no such configuration."""
        inside = Path(self._inside(config_path) or "")
        return runs(Path(self.path) / inside.parent).get(inside.name.removesuffix(".yaml"), [])

    def available(self) -> bool:
        """Whether the folder exists."""
        return super().is_group("")

    def is_group(self, config_path: str) -> bool:
        """Whether a group of that name exists."""
        inside = self._inside(config_path)
        return config_path == "" or (inside is not None and super().is_group(inside))

    def is_config(self, config_path: str) -> bool:
        """Whether a configuration of that name exists."""
        return bool(self._files(config_path))

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one configuration: a method's file, followed by that of its data set."""
        file, *axis = self._files(config_path)
        found = super().load_config(str(file.relative_to(self.path)))
        if axis:
            whole: Any = OmegaConf.to_container(found.config)
            defaults = whole.get("defaults", [])
            overrides = [entry for entry in defaults if _is_override(entry)]
            parts = [entry for entry in defaults if not _is_override(entry)]
            own = [] if "_self_" in parts else ["_self_"]
            found.config["defaults"] = [*parts, *own, f"data/{axis[0].stem}", *overrides]
        return found

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Names in a group."""
        inside = self._inside(config_path)
        if inside is None:
            return [GROUP] if results_filter in (None, ObjectType.GROUP) else []
        folder = Path(self.path) / inside
        names: list[str] = []
        for name in [*(file.name for file in folder.iterdir()), *(f"{run}.yaml" for run in runs(folder))]:
            self._list_add_result(names, f"{config_path}/{name}", name, results_filter)
        return sorted(set(names))


def _is_override(entry: Any) -> bool:
    """Whether an entry of a defaults list is ``override /GROUP: CHOICE``, which Hydra requires at the end."""
    return isinstance(entry, dict) and any(str(key).startswith("override ") for key in entry)
