"""Masks that are made from a data set's files, such as annotations or one mask per structure, and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segment.data.problems import Report, reported
from segment.errors import UserError
from segment.io.geometry import Grid
from segment.io.images import write_label
from segment.parallel import on_all_cores

FORMAT = 1  # increase whenever masks are made otherwise


@dataclass(frozen=True)
class Recipe:
    """How the mask of a case is made.

    Attributes:
        case: Id of the case.
        source: The file that a problem is reported for.
        grid: Grid of the mask.
        key: Whatever the mask depends on besides its grid, as plain values.
        make: Makes the mask, integers of the grid's shape; raises `UserError` or `ValueError`.
    """

    case: str
    source: Path
    grid: Grid
    key: Sequence[object]
    make: Callable[[], np.ndarray]

    def path(self, folder: Path) -> Path:
        """The file of the mask, whose name depends on everything that the mask depends on."""
        return _keyed(folder, self.case, [FORMAT, self.grid.shape, self.grid.affine.tolist(), *self.key])


def _keyed(folder: Path, name: str, key: Sequence[object]) -> Path:
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=12).hexdigest()
    return folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:60]}-{digest}.nii.gz"


def cached_file(cache: Path | None, kind: str, name: str, key: Sequence[object]) -> Path:
    """The NIfTI file in a cache for something that is made of a data set.

    Args:
        cache: Folder of the cache; None: the command's.
        kind: Name of the folder in it.
        name: Of a scan, or a part of one.
        key: Whatever the file depends on, as plain values.
    """
    return _keyed((cache or _default_cache()) / kind, name, key)


def make_masks(recipes: Sequence[Recipe], cache: Path | None, report: Report) -> dict[str, Path]:
    """Make the masks that are not there yet, on all cores.

    Args:
        recipes: One per case.
        cache: Folder that has or gets a folder for them; None: the command's.
        report: Receives a problem for each mask that cannot be made.

    Returns:
        Case to its mask, without those that cannot be made.
    """

    folder = (cache or _default_cache()) / "masks"

    def one(recipe: Recipe) -> str:
        path = recipe.path(folder)
        if not path.is_file():
            try:
                write_label(path, recipe.make(), like=recipe.grid)
            except (UserError, ValueError) as error:
                return str(error)
        return ""

    made = {}
    for recipe, failure in zip(recipes, on_all_cores(one, recipes), strict=True):
        with reported(report, "unreadable", recipe.source):
            if failure:
                text = failure if failure.startswith(str(recipe.source)) else f"{recipe.source}: {failure}. Correct it."
                raise UserError(text)
            made[recipe.case] = recipe.path(folder)
    return made


def _default_cache() -> Path:
    """The cache of the command."""
    home = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", ".")) / ".cache"
    return Path(os.environ.get("SEGMENT_CACHE") or Path(home) / "segment")
