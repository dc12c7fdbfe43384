"""The distance that counts as agreement between two masks of a structure, as the data set states it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from segment.errors import UserError, did_you_mean
from segment.metrics.metric import Metric
from segment.metrics.surface_dice import TOLERANCE


def tolerances(stated: float | Mapping[str, float] | None, structures: Collection[str], key: str) -> dict[str, float]:
    """Tolerance of every structure for which one is stated.

    Args:
        stated: In mm, one number for all structures or a number by name; None for none.
        structures: Names of the data set's structures.
        key: Configuration key of `stated`, for messages.

    Returns:
        Name to mm.

    Raises:
        UserError: A name is no structure of the data set, or a tolerance is not a finite number from 0 on.
    """
    if stated is None:
        return {}
    found = {str(name): value for name, value in stated.items()} if isinstance(stated, Mapping) else None
    if found is None:
        found = dict.fromkeys(structures, _checked(stated, key))
    for name, value in found.items():
        if name not in structures:
            raise UserError(f"{key}: the data set has no structure {name!r}.{did_you_mean(name, [*structures])}")
        _checked(value, f"{key}.{name}")
    return {name: float(value) for name, value in found.items()}


def tolerance_protocol(
    tolerance: Mapping[str, float], structures: Iterable[str], metrics: Iterable[Metric]
) -> dict[str, str]:
    """What a summary says about the tolerances: ``{tolerance_mm: "2"}``; empty if no metric uses them."""
    if not any(metric.uses_tolerance for metric in metrics):
        return {}
    used = {name: f"{tolerance.get(name, TOLERANCE):g}" for name in structures}
    same = len(set(used.values())) == 1
    return {"tolerance_mm": next(iter(used.values())) if same else ", ".join(map(" ".join, used.items()))}


def _checked(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise UserError(f"{key}={value} is not a distance in mm. Give a number from 0 on, such as 2.")
    return float(value)
