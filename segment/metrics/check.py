"""Check a metric on two small masks before hours of training depend on it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

import numpy as np

from segment.metrics.metric import DIAGONAL, MEASURED, Metric

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def check_metric(metric: object, taken: Collection[str] = ()) -> None:
    """Check that a metric can score, and that its attributes agree with its scores.

    Args:
        metric: The object that a configuration made.
        taken: Column names that are already in use.

    Raises:
        ValueError: It is not a metric; its name is not a valid, unused column name; its direction, perfect value and
            penalty contradict each other; or its score of two small masks is not finite or better than perfect, or
            that of two equal masks is not perfect.
    """
    if not isinstance(metric, Metric):
        raise ValueError(f"{type(metric).__name__} is not a segment.metrics.metric.Metric. Make it a subclass")
    for key in ("name", "title", "unit"):
        if not isinstance(getattr(metric, key, None), str):
            raise ValueError(f"{type(metric).__name__} has no {key}. Set it to a string")
    if not _NAME.fullmatch(metric.name) or metric.name in taken:
        rule = "is already in use" if metric.name in taken else "is not made of lowercase letters, digits and _"
        raise ValueError(f"name = {metric.name!r} {rule}. Give it a unique name, such as hd95_mm")
    if not isinstance(metric.higher_is_better, bool) or not _is_number(metric.perfect):
        raise ValueError(f"{metric.name} needs higher_is_better = True or False, and a number for perfect")
    _check_penalty(metric)
    _check_scores(metric)


def _check_penalty(metric: Metric) -> None:
    if metric.penalty == MEASURED:
        return
    if metric.penalty == DIAGONAL:
        if metric.higher_is_better or metric.unit != "mm":
            raise ValueError(
                f"{metric.name}: penalty = {DIAGONAL!r} is only for distances in mm, where lower is better"
            )
    elif not _is_number(metric.penalty) or not _is_better(metric, metric.perfect, float(metric.penalty)):
        raise ValueError(
            f"{metric.name}: penalty = {metric.penalty!r}, the score of a structure in only one mask, must be "
            f"worse than perfect = {metric.perfect!r}. Give a number, or {DIAGONAL!r} for a distance in mm"
        )


def _check_scores(metric: Metric) -> None:
    """Score a cube against itself and a shifted copy; a square if the metric does not accept volumes."""
    try:
        equal, apart = _trial_scores(metric, 3)
    except Exception:
        try:
            equal, apart = _trial_scores(metric, 2)
        except Exception as error:  # a custom metric may raise anything
            raise ValueError(f"{metric.name} cannot score a square of 4 x 4 voxels ({error!r})") from error
    if not math.isclose(equal, metric.perfect, rel_tol=1e-6, abs_tol=1e-6):
        raise ValueError(f"{metric.name} returns {equal:g} for two equal masks, not perfect = {metric.perfect:g}")
    if _is_better(metric, apart, metric.perfect):
        raise ValueError(
            f"{metric.name} returns {apart:g} for two different masks, better than perfect = {metric.perfect:g} where "
            f"{'higher' if metric.higher_is_better else 'lower'} is better. Fix higher_is_better or perfect"
        )


def _trial_scores(metric: Metric, dims: int) -> tuple[float, float]:
    """Scores of two equal masks, and of two that are one voxel apart."""
    one = np.zeros((8,) * dims, bool)
    one[(slice(2, 6),) * dims] = True
    other = np.roll(one, 1, axis=-1)
    spacing = (2.0, 1.0, 1.0)[-dims:]
    if metric.penalty == MEASURED:
        finite_score(metric, np.zeros_like(one), one, spacing)
    return finite_score(metric, one, one.copy(), spacing), finite_score(metric, other, one, spacing)


def finite_score(metric: Metric, prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, ...]) -> float:
    """The score of two masks as a plain number; ValueError if it is not a finite number."""
    return as_finite(metric, metric.compute(prediction, reference, spacing))


def as_finite(metric: Metric, value: object) -> float:
    """A score as a plain number.

    Raises:
        ValueError: It is not a number, or not finite: such a score would be dropped from means.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"the metric {metric.name} returns {value!r}, which is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"the metric {metric.name} returns {number}, which is not finite")
    return number


def _is_better(metric: Metric, score: float, than: float) -> bool:
    return score > than if metric.higher_is_better else score < than


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
