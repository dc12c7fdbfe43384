"""Search path of the configuration: the user's conf/ and experiments/ first, then the built-in ones."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
BUILT_IN = _PACKAGE if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent
"""Contains the built-in conf/ and experiments/: the installed package, or the checkout around it."""

ON_DISK = "segment.data.open_dataset"
"""Opens data sets that are already on disk, as opposed to those that are generated on first use."""


def config_folders() -> list[tuple[str, Path]]:
    """(scheme, folder) of every configuration root in search order: the user's, then the built-in ones."""
    roots = list(dict.fromkeys([Path.cwd(), BUILT_IN]))
    found = [("file", root / "conf") for root in roots] + [("experiments", root / "experiments") for root in roots]
    return [(scheme, folder) for scheme, folder in found if folder.is_dir()]
