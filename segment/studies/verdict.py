"""Judges a measured figure against a published one: equivalent within a preset margin, below, above, or inconclusive.

Whether the published value lies inside an interval over scans says little: on the same scans both share their
difficulty, and with few scans nearly everything lies inside. The question is whether training again, as published,
gives the published figure but for a difference that does not matter. Two one-sided tests at 5 % (Schuirmann 1987)
answer it, with the standard error that `segment.studies.prediction` derives from our folds or seeds. At least five
folds or three seeds are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from segment.config.experiments import RULES
from segment.errors import UserError
from segment.files import read_mapping
from segment.statistics.differences import intervals
from segment.studies import prediction
from segment.studies.figures import ALL, Measured, Published
from segment.text import printable

NOT_RUN, DATA_NEEDED = "not run", "not run (data needed)"
INCONCLUSIVE, NOT_COMPARABLE = "inconclusive", "not comparable"
REPRODUCED, NOT_BELOW, NOT_ABOVE = "reproduced", "not reproduced (below)", "not reproduced (above)"
MATCHES, MATCHES_BELOW, MATCHES_ABOVE = "matches", "does not match (below)", "does not match (above)"
VERDICTS = (
    REPRODUCED, NOT_BELOW, NOT_ABOVE, MATCHES, MATCHES_BELOW, MATCHES_ABOVE, INCONCLUSIVE, NOT_COMPARABLE, NOT_RUN,
    DATA_NEEDED,
)  # fmt: skip
"""Of the published recipe: reproduced or not; of a run that differs from it: matches or not."""

FEWEST_FOLDS, FEWEST_SEEDS = 5, 3
LEVEL = 0.9  # of the interval that two one-sided tests at 5 % amount to
_MARGINS = {"dice": 0.005, "iou": 0.005}
_CONTENT = ("margin", "reason", "differs", "not_comparable", "same_scans")
_KEYS = ("run", "metric", "label", "fold", "split", "overlap", "test_time_augmentation")


@dataclass(frozen=True)
class Rules:
    """How the figures of a study are judged, from its ``verdict.yaml``.

    Attributes:
        margin: Smallest relevant difference of each metric, as a fraction or in its unit.
        reason: Why these margins.
        differs: Run -> what differs from the published recipe.
        not_comparable: Patterns of the columns of ``published.csv``, with a ``reason``.
        same_scans: Likewise: figures without a fold that were published for the very scans that ours are tested on.
    """

    margin: Mapping[str, float]
    reason: str
    differs: Mapping[str, str]
    not_comparable: Sequence[Mapping[str, str]]
    same_scans: Sequence[Mapping[str, str]] = ()

    def difference_of(self, run: str) -> str:
        """What differs between a run and the published recipe; empty if nothing does."""
        return next((text for pattern, text in self.differs.items() if fnmatchcase(run, pattern)), "")

    def obstacle(self, figure: Published, protocol: Mapping[str, Any]) -> str:
        """Why a figure cannot be compared with the run that was, or would be, made for it; empty if it can.

        Args:
            figure: The published figure.
            protocol: How the measured figure was computed; empty if there is none.
        """
        entry = _matching(figure, self.not_comparable)
        if entry is not None:
            return entry["reason"]
        overlap = protocol.get("overlap")
        if isinstance(overlap, int | float) and _is_number(figure.overlap) and float(figure.overlap) != overlap:
            return f"window overlap {figure.overlap} published, {overlap:g} measured"
        views = str(protocol.get("test_time_augmentation", ""))
        theirs = figure.test_time_augmentation
        plain = views in ("none", "off", "False", "[]")
        if views and (plain if theirs.startswith("mirror") else theirs == "none" and not plain):
            return f"test-time augmentation {theirs} published, {views} measured"
        return ""

    def on_same_scans(self, figure: Published) -> bool:
        """Whether a figure was published for the scans that ours is tested on; so are those of a fold."""
        return bool(figure.fold) or _matching(figure, self.same_scans) is not None


def _matching(figure: Published, entries: Sequence[Mapping[str, str]]) -> Mapping[str, str] | None:
    """The first entry whose patterns all match a figure."""
    for entry in entries:
        if all(fnmatchcase(str(getattr(figure, key)), entry[key]) for key in _KEYS if key in entry):
            return entry
    return None


NO_RULES = Rules(_MARGINS, "", {}, ())


def read_rules(study: Path) -> Rules:
    """Read ``verdict.yaml`` of a study; the defaults if there is none.

    Raises:
        UserError: When the file is not such a file; the message names the key.
    """
    path = study / RULES
    if not path.is_file():
        return NO_RULES
    content = read_mapping(path)
    unknown = sorted(set(content) - set(_CONTENT))
    margin, differs = (content.get(key) or {} for key in ("margin", "differs"))
    if unknown:
        raise UserError(f"{path}: unknown key {printable(unknown[0])}. It has {', '.join(_CONTENT)}.")
    if not isinstance(margin, dict) or not all(isinstance(value, float) and value > 0 for value in margin.values()):
        raise UserError(f"{path}: margin: give a positive decimal for each metric, such as {{dice: 0.005}}.")
    if margin and not content.get("reason"):
        raise UserError(f"{path}: margin: say why in reason.")
    if not isinstance(differs, dict):
        raise UserError(f"{path}: differs: give what differs for each run, {{RUN: TEXT}}.")
    return Rules(
        _MARGINS | margin,
        str(content.get("reason", "")),
        {str(run): str(text) for run, text in differs.items()},
        *(_patterns(f"{path}: {key}", content.get(key) or []) for key in ("not_comparable", "same_scans")),
    )


def _patterns(where: str, entries: Any) -> list[dict[str, str]]:
    """Entries of patterns with a reason each, as text."""
    if not isinstance(entries, list) or not all(isinstance(one, dict) and "reason" in one for one in entries):
        raise UserError(f"{where}: give a list of {{run: ..., reason: ...}}.")
    wrong = sorted({str(key) for entry in entries for key in entry} - {*_KEYS, "reason"})
    if wrong:
        raise UserError(f"{where}: unknown key {printable(wrong[0])}. Keys: {', '.join(_KEYS)}, reason.")
    return [{str(key): str(value) for key, value in entry.items()} for entry in entries]


@dataclass(frozen=True)
class Judgement:
    """The verdict on a published figure.

    Attributes:
        verdict: One of `VERDICTS`; empty if the run was not scored with such a metric.
        difference: Measured minus published; None without a measured value or where it is not comparable.
        interval: Its interval at `LEVEL`; None with too few folds and seeds.
        why: What an inconclusive or not comparable verdict is due to; empty otherwise.
    """

    verdict: str
    difference: float | None = None
    interval: tuple[float, float] | None = None
    why: str = ""


def judge(
    figure: Published,
    own: Sequence[Measured],
    siblings: Sequence[Published],
    rules: Rules = NO_RULES,
    differs: bool = False,
) -> Judgement:
    """Judge the measured rows of one run, metric and label.

    Args:
        figure: The published figure.
        own: Rows of every fold and seed, all of one protocol, with a value each; at least one.
        siblings: Published figures of the same run, metric and label, for its folds.
        rules: The study's rules.
        differs: Whether the run differs from the published recipe, or was reduced.
    """
    margin = rules.margin.get(figure.metric)
    target = float(figure.value) / figure.scale
    whole = [row for row in own if (row.fold == figure.fold if figure.fold else not row.fold.isdigit())]
    scored = [row for row in whole if row.value is not None]
    by_fold = {} if figure.fold else _folds(own)
    values = [row.value for row in scored if row.value is not None]
    values = values or [float(np.mean(seeds)) for seeds in by_fold.values()]
    if len(by_fold) < FEWEST_FOLDS and len({row.seed for row in scored}) < FEWEST_SEEDS:
        need = f"{FEWEST_SEEDS} seeds" if figure.fold else f"{FEWEST_FOLDS} folds or {FEWEST_SEEDS} seeds"
        return Judgement(INCONCLUSIVE, float(np.mean(values)) - target, None, f"fewer than {need}")
    theirs = {row.fold: float(row.value) / row.scale for row in siblings if row.fold}
    same = rules.on_same_scans(figure)
    if len(by_fold) >= FEWEST_SEEDS and set(by_fold) <= set(theirs):
        estimate, errors = prediction.paired_folds(by_fold, theirs)
    elif len(by_fold) >= FEWEST_SEEDS:
        estimate, errors = prediction.folds(by_fold, target, same)
    else:
        estimate, errors = prediction.seeds(scored, target, same)
    low, high = (float(end) for end in intervals(np.array(estimate), errors, LEVEL))
    if margin is None:
        return Judgement(INCONCLUSIVE, estimate, (low, high), f"no margin is set for {figure.metric}")
    word, why = _word(low, high, margin, differs)
    return Judgement(word, estimate, (low, high), why)


def _word(low: float, high: float, margin: float, differs: bool) -> tuple[str, str]:
    """The verdict of an interval, and why it is inconclusive."""
    equal, below, above = (MATCHES, MATCHES_BELOW, MATCHES_ABOVE) if differs else (REPRODUCED, NOT_BELOW, NOT_ABOVE)
    if -margin < low and high < margin:
        return equal, ""
    if high < 0:
        return below, ""
    if low > 0:
        return above, ""
    return INCONCLUSIVE, f"neither within {margin:g} nor apart"


def _folds(own: Sequence[Measured]) -> dict[str, list[float]]:
    """The value of every seed, by fold."""
    found: dict[str, list[float]] = {}
    for row in sorted(own, key=lambda row: row.fold):
        if row.fold.isdigit() and row.value is not None:
            found.setdefault(row.fold, []).append(row.value)
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def seeds_together(rows: Sequence[Measured]) -> Measured | None:
    """One row for the seeds of a figure: their mean, with the interval over scans only if there is one seed.

    Args:
        rows: One row per seed; may be empty.
    """
    if len(rows) < 2:
        return rows[0] if rows else None
    values = [row.value for row in rows if row.value is not None]
    last = max(rows, key=lambda row: row.date)
    mean = float(np.mean(values)) if values else None
    return Measured(**{**vars(last), "value": mean, "ci95_low": None, "ci95_high": None})


def chosen(rows: Sequence[Measured], figure: Published) -> list[Measured]:
    """The rows of a run that a figure is judged by: of one metric, label, length and protocol, the latest of each.

    Args:
        rows: All rows of the run.
        figure: The figure.
    """
    named = [
        row
        for row in rows
        if row.metric == figure.metric
        and row.label.casefold() == figure.label.casefold()
        and (not figure.fold or row.fold == figure.fold)
    ]
    if not named:
        return []
    best = max(named, key=lambda row: (row.fold == ALL, len(row.folds), not row.reduced, row.steps, row.date))
    alike = [row for row in named if (row.steps, row.reduced) == (best.steps, best.reduced)]
    latest: dict[tuple[str, int], Measured] = {}
    for row in sorted(alike, key=lambda row: row.date):
        latest[row.fold, row.seed] = row
    return [row for row in latest.values() if row.fold.isdigit() or row.fold == best.fold]
