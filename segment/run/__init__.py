"""One file a verb; the only floor that sees Hydra and OmegaConf."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
BUILT_IN = _PACKAGE if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent
"""Holds the built-in conf/ and experiments/: the installed package, or the checkout around it."""
