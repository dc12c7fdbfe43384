"""Modules of the user's own, imported from the current folder where a configuration or an option names them.

The current folder is not on `sys.path`: it may be a downloaded data set, and its ``pydicom.py`` or ``hydra_plugins``
would run as soon as a library tries an optional import.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType


class CurrentFolder(MetaPathFinder):
    """Finds, after all other finders, named modules in the current folder, and what these import from there."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.files: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a top-level module; the modules of a package are found by its own path."""
        if path is not None or not (name in self.names or self._imports(sys._getframe(1))):
            return None
        spec = PathFinder.find_spec(name, [str(Path.cwd())])
        if spec is not None:
            self.files += [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else ())]
        return spec

    def _imports(self, frame: FrameType | None) -> bool:
        """Whether the import statement that is being executed stands in a module found here."""
        while frame is not None and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        file = frame.f_code.co_filename if frame is not None else ""
        return any(file == known or file.startswith(f"{known}{os.sep}") for known in self.files)


_finder = CurrentFolder()


def allow(target: str) -> None:
    """Let a module that the user named, such as ``my_networks.Wide``, be imported from the current folder."""
    _finder.names.add(target.partition(".")[0])
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)


def leave_current_folder() -> None:
    """Remove the current folder from `sys.path`, where ``python -m`` puts it, unless this package is in it."""
    here = Path.cwd()
    if sys.path and sys.path[0] in ("", str(here)) and Path(__file__).parents[1] != here:
        del sys.path[0]
