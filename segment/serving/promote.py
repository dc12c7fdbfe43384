"""Decides whether a new model may take the place of the current one, and writes its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segment.errors import UserError
from segment.evaluation.comparison.compare import compare_runs
from segment.evaluation.comparison.result import Comparison, Pair
from segment.files import write_text
from segment.inference.limits import find_model
from segment.runs.folder import read_run
from segment.runs.health import failure
from segment.serving.model_card import model_card

CARD = "MODEL_CARD.md"
NEW, CURRENT = "new", "current"


@dataclass(frozen=True)
class Rule:
    """What the new model must show.

    Attributes:
        metric: Column of ``scans.csv``.
        margin: How much worse it may be; None: `segment.evaluation.comparison.compare.MARGIN`.
        split: Split of the scans; ``test``: the frozen test scans.
        level: Confidence level of the test.
    """

    metric: str = "dice"
    margin: float | None = None
    split: str = "test"
    level: float = 0.95


@dataclass(frozen=True)
class Promotion:
    """A model that may be used.

    Attributes:
        card: The file of its card.
        sentence: What was shown; empty without a current model.
    """

    card: Path
    sentence: str


def promote(run: Path, current: Path | None, rule: Rule, use: str = "") -> Promotion:
    """Write the card of a run's model beside its ``model/``, unless it is worse than the current one.

    Args:
        run: The run folder of the new model.
        current: That of the model in use; None: there is none.
        rule: What the new one must show.
        use: Intended use, for the card.

    Raises:
        UserError: When the run is not finished, has no model, is the current one, or is not shown to be as good as the
            current one within the margin; nothing is written then.
    """
    find_model(run)
    if failed := failure(run):
        raise UserError(f"{failed}: it contains no result. Give the folder of a finished run.")
    pair = None
    if current is not None:
        if current.resolve() == run.resolve():
            raise UserError(f"current={current}: is the new model itself. Give the run of the model in use.")
        comparison = compared(run, current, rule)
        pair = comparison.pair(NEW, CURRENT)
        _require_as_good(pair, comparison, rule)
    shown = "" if pair is None else sentence(pair, rule)
    card = run / CARD
    write_text(card, model_card(read_run(run), shown, use))
    return Promotion(card, shown)


def compared(run: Path, current: Path, rule: Rule) -> Comparison:
    """Compare both on the scans of the rule's split, each scan with itself.

    Raises:
        UserError: When they cannot be paired scan by scan, or a reference differs between both.
    """
    margin = "auto" if rule.margin is None else rule.margin
    (found,) = compare_runs(
        [str(run), str(current)],
        [rule.metric],
        "run",
        [NEW, CURRENT],
        level=rule.level,
        split=None if rule.split == "val" else rule.split,
        margin=margin,
    )
    if found.margin is None:
        raise UserError(f"margin: {rule.metric} has a unit. Say how much worse the new model may be: margin=NUMBER.")
    return found


def _require_as_good(pair: Pair, comparison: Comparison, rule: Rule) -> None:
    """Raise unless the new model is shown to be worse by less than the margin."""
    if pair.not_worse[0]:
        return
    assert comparison.margin is not None
    better = comparison.metric.higher_is_better
    worse = pair.difference is not None and (-pair.difference if better else pair.difference) >= comparison.margin
    why = "it is worse by more than that" if worse else f"the {pair.n} scans do not show that it is not"
    raise UserError(
        f"The new model is not promoted: {sentence(pair, rule)} It may be worse by less than {comparison.margin:g}, "
        f"and {why}. Train further, score more scans, or allow a larger margin=."
    )


def sentence(pair: Pair, rule: Rule) -> str:
    """The comparison in one sentence."""
    if pair.difference is None or pair.first_mean is None or pair.second_mean is None:
        return f"{rule.metric} cannot be compared on {pair.n} {rule.split} scans."
    ends = pair.interval
    interval = "" if ends is None else f", {100 * rule.level:g} % interval {ends[0]:+.4f} to {ends[1]:+.4f}"
    return (
        f"{rule.metric} of {pair.n} {rule.split} scans is {pair.first_mean:.4f}, {pair.second_mean:.4f} with the "
        f"current model (difference {pair.difference:+.4f}{interval})."
    )
