"""The conclusion of a comparison, in one sentence that can be pasted into a paper."""

from __future__ import annotations

from collections.abc import Sequence

from segment.evaluation.comparison.methods import Method
from segment.evaluation.comparison.result import Comparison, Pair, Scope
from segment.runs.health import listed
from segment.text import printable

_MOST_NAMED = 20
# Whom a statement is about: the methods, or what was trained once if nothing is known of other trainings.
_NAMED = {"methods": "", "trainings": "the trained models ", "masks": "the masks of "}
_THESE = {"trainings": "these two trained models", "masks": "these two sets of masks"}


def percent(level: float) -> str:
    """A level as ``95 %``."""
    return f"{100 * level:g} %"


def interval_text(interval: tuple[float, float] | None) -> str:
    """An interval as ``0.0041 to 0.0205``."""
    return "not defined" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def p_text(p: float | None) -> str:
    """A p-value as ``p = 0.0031`` or ``p < 0.0001``."""
    if p is None:
        return "p not defined"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


def conclude(comparison: Comparison) -> str:
    """State which method is better, or that no difference is significant.

    Args:
        comparison: The comparison; its conclusion may still be empty.

    Returns:
        One sentence. Two methods: difference, interval, p, number of scans, splits, folds and seeds. Several methods:
        which one leads, which ones are significantly worse and which ones are not. Then differences that are not in the
        names of the methods, and runs that were left out.
    """
    leader, *others = comparison.ranking.names
    pairs = [comparison.pair(leader, other) for other in others]
    return _conclude_two(comparison, pairs[0]) if len(pairs) == 1 else _conclude_several(comparison, leader, pairs)


def _conclude_two(comparison: Comparison, pair: Pair) -> str:
    what = f"foreground {comparison.metric.heading}"
    if pair.difference is None:
        return (
            f"{pair.first} and {pair.second} cannot be compared: no scan has a score from both "
            f"({'; '.join([scans_text(comparison), *_left_out(comparison)])})."
        )
    direction = "higher" if comparison.metric.higher_is_better else "lower"
    p = p_text(pair.p_holm) if comparison.tests == 1 else f"{p_text(pair.p_holm)}, {_family(comparison)}"
    limits = "; ".join([_figures(comparison, pair), p, *_limits(comparison, [pair])])
    by = f"{direction} by {abs(pair.difference):.4f}"
    both = f"{_NAMED[pair.scope]}{_and([pair.first, pair.second])}"
    same = f"{what} {by} for {pair.first}" if pair.difference else f"the same {what}"
    if pair.equivalent:
        smaller = ", significant but smaller than what is relevant" if pair.significant else ""
        start = both if pair.scope == "methods" else f"T{both[1:]}"
        return f"{start} are equivalent within {comparison.margin:g}: {same}{smaller} ({limits})."
    if pair.significant:
        of = "" if pair.scope == "methods" else f"Of {_THESE[pair.scope]}, "
        return f"{of}{pair.first} is better than {pair.second}: {what} {by} ({limits})."
    not_worse = ""
    if comparison.margin is not None and pair.not_worse[0]:
        not_worse = f", and {pair.first} is at most {comparison.margin:g} worse"
    return f"No significant difference between {both}: {same}{not_worse} ({limits})."


def _conclude_several(comparison: Comparison, leader: str, pairs: Sequence[Pair]) -> str:
    metric, mean = comparison.metric.heading, comparison.estimates[leader][pairs[0].structure].mean
    if mean is None:
        limits = "; ".join([scans_text(comparison), *_left_out(comparison)])
        return f"The {len(pairs) + 1} methods cannot be compared: no scan has a score ({limits})."
    equal = [pair for pair in pairs if pair.equivalent]
    worse, same = (
        [pair for pair in pairs if pair.significant is significant and not pair.equivalent]
        for significant in (True, False)
    )
    extreme = "highest" if comparison.metric.higher_is_better else "lowest"
    limits = "; ".join([f"{_family(comparison)}, intervals as they are", *_limits(comparison, pairs)])
    found = []
    if worse:
        found.append(f"it is better than {_listed(comparison, worse)}")
    if equal:
        found.append(f"equivalent within {comparison.margin:g} to {_listed(comparison, equal)}")
    if same:
        found.append(f"it does not differ significantly from {_listed(comparison, same)}")
    scope = pairs[0].scope
    kind = {"methods": "methods", "trainings": "trained models", "masks": "sets of masks"}[scope]
    whose = f"{'' if scope == 'methods' else 'these '}{len(pairs) + 1} {kind}"
    return f"{leader} has the {extreme} foreground {metric} of {whose}, {mean:.4f}: {'; '.join(found)}; {limits}."


def _family(comparison: Comparison) -> str:
    """The tests over which p is corrected."""
    several = len(comparison.family) > 1
    metrics = f" by {_and([info.heading for info in comparison.family])}" if several else ""
    return f"Holm over {comparison.tests} comparisons{metrics}"


def _figures(comparison: Comparison, pair: Pair) -> str:
    """The interval of the advantage of the first method."""
    interval = pair.interval
    if interval is not None and not comparison.metric.higher_is_better:
        interval = (-interval[1], -interval[0])
    return f"{percent(comparison.level)} interval {interval_text(interval)}"


def _listed(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """The methods that the leader is compared with; up to three of them with their figures."""
    names = [pair.second for pair in pairs[:_MOST_NAMED]]
    if len(pairs) <= 3:
        names = [
            f"{pair.second} (by {abs(pair.difference or 0):.4f}, {_figures(comparison, pair)}, {p_text(pair.p_holm)})"
            for pair in pairs
        ]
    return _and([*names, *([f"{len(pairs) - _MOST_NAMED} more"] if len(pairs) > _MOST_NAMED else [])])


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _limits(comparison: Comparison, pairs: Sequence[Pair]) -> list[str]:
    """Number and origin of scans, number of trainings, and what keeps the comparison from saying more."""
    pair, comparisons = pairs[0], comparison.tests
    limits = [scans_text(comparison)]
    if comparison.groups == 1:
        limits.append("all of one group, so nothing is known beyond it")
    elif comparison.groups is not None:
        limits.append(f"in {comparison.groups} groups that count once each")
    if comparison.scarce and comparison.groups != 1:
        named = _and([f"{label} in {count}" for label, count in comparison.scarce.items()])
        limits.append(f"too few scans of a label for a statement on the foreground ({named})")
    least = pair.p_least
    if least is not None and comparison.groups != 1 and comparisons * least >= round(1 - comparison.level, 12):
        over = f" times {comparisons} comparisons" if comparisons > 1 else ""
        differ = pair.n if comparison.groups is None else comparison.groups
        some = "too few scans differ for significance" if least < 1 else "no scan differs"
        limits.append(f"{some}: of {differ}, p cannot fall below {least:.4f}{over}" if least < 1 else some)
    for other in (other for other in pairs[:_MOST_NAMED] if other.opposite):
        wins = f"{other.first} is better on {other.won}, {other.second} on {other.lost}"
        limits.append(f"single scans favour {other.second}: {wins}")
    limits.append(_trainings(comparison.methods, pair.scope))
    return [*limits, *_differing_settings(comparison), *_left_out(comparison)]


def _differing_settings(comparison: Comparison) -> list[str]:
    """Differences between the methods that are not in their names."""
    found = []
    if comparison.other_parts:
        found.append(f"each with its own recipe ({', '.join(comparison.other_parts)})")
    if comparison.settings:
        found.append(f"predicted with different settings: {', '.join(comparison.settings)}")
    return found


def _left_out(comparison: Comparison) -> list[str]:
    return [f"left out: {listed(comparison.failed)}"] if comparison.failed else []


def scans_text(comparison: Comparison) -> str:
    """Number of scans, with their splits and folds."""
    table = comparison.methods[0].scores
    splits = sorted({printable(split) for split, _ in table.index})
    folds = sorted({fold for method in comparison.methods for fold in method.folds})
    consecutive = len(folds) > 2 and folds == list(range(folds[0], folds[-1] + 1))
    named = f"{folds[0]} to {folds[-1]}" if consecutive else ", ".join(map(str, folds))
    where = [f"split {', '.join(splits)}", *([f"fold{'s' if len(folds) > 1 else ''} {named}"] if folds else [])]
    return f"{len(table)} scan{'' if len(table) == 1 else 's'} of {', '.join(where)}"


def _trainings(methods: Sequence[Method], scope: Scope) -> str:
    """How many trainings the comparison rests on, and whether it says anything about others."""
    counts = sorted({method.seeds for method in methods})
    if scope == "masks":
        return "one set of masks each, so another training may differ"
    if counts == [1]:
        folds = len(methods[0].folds)
        return f"one seed, {folds} folds" if scope == "methods" else "one seed each, so another training may differ"
    seeds = f"{counts[0]} seeds each" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return seeds if scope == "methods" else f"{seeds}, so another training may differ"
