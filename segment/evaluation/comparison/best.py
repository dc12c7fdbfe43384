"""Which of several configurations and their ensembles to predict with, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segment.errors import UserError
from segment.evaluation.comparison.result import FOREGROUND, Comparison, Pair
from segment.evaluation.comparison.wording import interval_text, p_text, percent


@dataclass(frozen=True)
class Best:
    """The best method, by nnU-Net's rule: the best mean over the validation scans, ensembles included.

    Attributes:
        name: Its name.
        runs: The runs to predict with.
        alone: The best single run and its comparison with the best method; None if it is the best method.
        sentence: Why.
    """

    name: str
    runs: tuple[str, ...]
    alone: Pair | None
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values for programs."""
        return {"name": self.name, "runs": list(self.runs), "sentence": self.sentence}


def choose_best(comparison: Comparison, members: Mapping[str, Sequence[str]]) -> Best:
    """Choose a method.

    Args:
        comparison: All single runs and ensembles.
        members: Name of every method to its runs: one, or several of an ensemble.

    Raises:
        UserError: When no scan has a score.
    """
    metric, ranking = comparison.metric, comparison.ranking.names
    name = ranking[0]
    mean = comparison.estimates[name][FOREGROUND].mean
    if mean is None:
        raise UserError("runs: no scan has a score, so there is no best run.")
    extreme = "highest" if metric.higher_is_better else "lowest"
    sentence = (
        f"Best: {name}, with the {extreme} foreground {metric.heading} of {len(ranking)}, {mean:.4f} "
        f"({comparison.estimates[name][FOREGROUND].n} scans)."
    )
    if len(members[name]) == 1:
        return Best(name, tuple(members[name]), None, f"{sentence} No ensemble of two is better.")
    single = next(other for other in ranking if len(members[other]) == 1)
    pair = comparison.pair(name, single)
    figures = f"{percent(comparison.level)} interval {interval_text(pair.interval)}, {p_text(pair.p_holm)}"
    gain = "significant" if pair.significant else "not significant: the single model predicts in less time"
    sentence += (
        f" The best single run is {single}, {comparison.estimates[single][FOREGROUND].mean:.4f}: the difference of "
        f"{pair.difference or 0:+.4f} ({figures}) is {gain}."
    )
    return Best(name, tuple(members[name]), pair, sentence)
