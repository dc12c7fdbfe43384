"""Whether a metric is what it says: tried on two small masks before hours of training depend on it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

import numpy as np

from segment.metrics.metric import DIAGONAL, Metric

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_metric(metric: object, taken: Collection[str] = ()) -> None:
    """Refuse what cannot be scored with, or would be read the wrong way round.

    Args:
        metric: What a configuration made.
        taken: Names of columns that it cannot have.

    Raises:
        ValueError: It is no metric; its name is no free name of a column; its direction, perfect value and penalty
            contradict each other; or of two small masks it gives no finite number, a better one than the perfect one,
            or of two equal masks not the perfect one.
    """
    if not isinstance(metric, Metric):
        raise ValueError(f"{type(metric).__name__} is no segment.metrics.metric.Metric. Make it a subclass")
    for key in ("name", "title", "unit"):
        if not isinstance(getattr(metric, key, None), str):
            raise ValueError(f"{type(metric).__name__} has no {key}. Give it one, a text")
    if not _NAME.fullmatch(metric.name) or metric.name in taken:
        rule = "is taken" if metric.name in taken else "is not made of small letters, digits and _"
        raise ValueError(f"name = {metric.name!r} {rule}. Give it a name of its own, such as hd95_mm")
    if not isinstance(metric.higher_is_better, bool) or not _is_number(metric.perfect):
        raise ValueError(f"{metric.name} needs higher_is_better = True or False, and a number as perfect")
    _check_penalty(metric)
    _check_scores(metric)


def _check_penalty(metric: Metric) -> None:
    if metric.penalty == DIAGONAL:
        if metric.higher_is_better or metric.unit != "mm":
            raise ValueError(
                f"{metric.name}: penalty = {DIAGONAL!r} is that of a distance in mm, of which less is better"
            )
    elif not _is_number(metric.penalty) or not _better(metric, metric.perfect, float(metric.penalty)):
        raise ValueError(
            f"{metric.name}: penalty = {metric.penalty!r}, the score of a structure that only one mask holds, must be "
            f"worse than perfect = {metric.perfect!r}. Give a number, or {DIAGONAL!r} for a distance in mm"
        )


def _check_scores(metric: Metric) -> None:
    """Score a cube against itself and against its neighbour; a square where the metric does not take volumes."""
    try:
        equal, apart = _tried(metric, 3)
    except Exception:
        try:
            equal, apart = _tried(metric, 2)
        except Exception as error:  # what a stranger's metric raises is its own
            raise ValueError(f"{metric.name} cannot score a square of 4 x 4 voxels ({error!r})") from error
    if not math.isclose(equal, metric.perfect, rel_tol=1e-6, abs_tol=1e-6):
        raise ValueError(f"{metric.name} gives {equal:g} for two equal masks, not perfect = {metric.perfect:g}")
    if _better(metric, apart, metric.perfect):
        raise ValueError(
            f"{metric.name} gives {apart:g} for two masks that differ, better than perfect = {metric.perfect:g} where "
            f"{'more' if metric.higher_is_better else 'less'} is better. Mend higher_is_better or perfect"
        )


def _tried(metric: Metric, dims: int) -> tuple[float, float]:
    """Scores of two equal masks, and of two that lie a voxel apart."""
    one = np.zeros((8,) * dims, bool)
    one[(slice(2, 6),) * dims] = True
    other = np.roll(one, 1, axis=-1)
    spacing = (2.0, 1.0, 1.0)[-dims:]
    return finite_score(metric, one, one.copy(), spacing), finite_score(metric, other, one, spacing)


def finite_score(metric: Metric, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> float:
    """What a metric computes of two masks, as a plain number; ValueError where it is none that is finite."""
    return as_finite(metric, metric.compute(prediction, reference, spacing))


def as_finite(metric: Metric, value: object) -> float:
    """A score as a plain number.

    Raises:
        ValueError: It is no number, or not finite: such a score would vanish from means.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"the metric {metric.name} gives {value!r}, which is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"the metric {metric.name} gives {number}, which is no score")
    return number


def _better(metric: Metric, score: float, than: float) -> bool:
    return score > than if metric.higher_is_better else score < than


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
