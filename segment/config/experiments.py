"""Makes a folder of studies reachable as the Hydra group ``experiments/STUDY``."""

from __future__ import annotations

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult

GROUP = "experiments"


class ExperimentsSource(FileConfigSource):
    """A folder that appears as the group ``experiments``: ``STUDY/RUN.yaml`` is ``experiments/STUDY/RUN``."""

    @staticmethod
    def scheme() -> str:
        """Scheme of the search-path entry."""
        return "experiments"

    @staticmethod
    def _inside(config_path: str) -> str | None:
        head, _, rest = config_path.strip("/").partition("/")
        return rest if head == GROUP else None

    def available(self) -> bool:
        """Whether the folder is there."""
        return super().is_group("")

    def is_group(self, config_path: str) -> bool:
        """Whether a group of that name exists."""
        inside = self._inside(config_path)
        return config_path == "" or (inside is not None and super().is_group(inside))

    def is_config(self, config_path: str) -> bool:
        """Whether a configuration of that name exists."""
        inside = self._inside(config_path)
        return inside is not None and super().is_config(inside)

    def load_config(self, config_path: str) -> ConfigResult:
        """Read one configuration."""
        return super().load_config(self._inside(config_path) or config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Names within a group."""
        inside = self._inside(config_path)
        if inside is None:
            return [GROUP] if results_filter in (None, ObjectType.GROUP) else []
        names: list[str] = []
        for name in sorted(file.name for file in self._folder(inside).iterdir()):
            self._list_add_result(names, f"{config_path}/{name}", name, results_filter)
        return sorted(set(names))

    def _folder(self, inside: str) -> Path:
        return Path(self.path) / inside
