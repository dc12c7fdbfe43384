"""segment: medical image segmentation experiments that can be compared and reproduced.

The functions below are the Python counterparts of the command's verbs. Each is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segment.api import build, compare, datamodule, evaluate, load_model, load_run, train
    from segment.data import open_dataset
    from segment.errors import UserError
    from segment.inference.model import Model

__version__ = "0.1.0"

__all__ = [
    "Model",
    "UserError",
    "build",
    "compare",
    "datamodule",
    "evaluate",
    "load_model",
    "load_run",
    "open_dataset",
    "train",
]


_MODULES = {"Model": "segment.inference.model", "UserError": "segment.errors", "open_dataset": "segment.data"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported on demand, so that the command's help starts quickly.
    found = globals()[name] = getattr(importlib.import_module(_MODULES.get(name, "segment.api")), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
