"""What stands beside a comparison: what its numbers were made with, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segment.evaluation.comparison.methods import Method, Methods
from segment.evaluation.comparison.result import Pair
from segment.runs.folder import RunFolder
from segment.runs.health import Failure, listed
from segment.runs.summary import merged_protocol, protocol_line
from segment.text import printable

_SETTINGS = {
    "overlap": "window overlap",
    "test_time_augmentation": "test-time augmentation",
    "precision": "precision",
    "weights": "weights",
}
# Lightning's names of what a summary may call by its number format.
_PRECISIONS = {
    **dict.fromkeys(("32", "32-true"), "fp32"),
    **dict.fromkeys(("16", "16-mixed", "16-true"), "fp16"),
    **dict.fromkeys(("bf16-mixed", "bf16-true"), "bf16"),
    **dict.fromkeys(("64", "64-true"), "fp64"),
}
_MOST_NAMED = 3


def protocol(methods: Sequence[Method]) -> str:
    """One line that says what the numbers were made with; values that differ stand side by side.

    Args:
        methods: The methods that are compared.

    Returns:
        As `segment.runs.summary.protocol_line`.
    """
    merged = merged_protocol(run.summary for method in methods for run in method.runs)
    for key in ("predictions", "references"):
        merged.pop(key, None)
    merged["split"] = sorted({split for split, _ in methods[0].scores.index})
    merged["fold"] = sorted({fold for method in methods for fold in method.folds}) or None
    return protocol_line({"scans": len(methods[0].scores), "protocol": merged})


def different_settings(methods: Sequence[Method]) -> list[str]:
    """In what the predictions of methods were made differently.

    Args:
        methods: The methods, in the order in which they are told.

    Returns:
        Parts of a sentence, such as ``test-time augmentation mirror all against none``. What a run does not tell is no
        difference.
    """
    found = []
    for key, title in _SETTINGS.items():
        alike: dict[str, list[str]] = {}
        for method in methods:
            values = sorted({value for run in method.runs if (value := _setting(run, key)) is not None})
            if values:
                alike.setdefault(" and ".join(values), []).append(method.name)
        if len(alike) > 1:
            pair = len(methods) == 2
            told = [value if pair else f"{value} ({_named(names)})" for value, names in alike.items()]
            found.append(f"{title} {' against '.join(told)}")
    return found


def notes(methods: Methods, pairs: Sequence[Pair]) -> list[str]:
    """What limits a comparison.

    Args:
        methods: What is compared.
        pairs: What was found.

    Returns:
        Sentences.
    """
    found = []
    if methods.failed:
        found.append(_failed(methods.failed))
    if methods.left_out:
        found.append(f"{methods.left_out} scans that not all runs have were left out.")
    unpaired = sum(pair.unpaired for pair in pairs if pair.structure != "foreground")
    if unpaired:
        found.append(
            f"{unpaired} times (over all pairs, scans and labels) one method rightly left a structure empty that the "
            f"other invented: the missing score counts as {methods.metric.perfect:g} in the tests and in scans won."
        )
    unstable = [f"{pair.first} - {pair.second}" for pair in pairs if pair.unstable]
    if unstable:
        more = f"; {len(unstable) - 3} more" if len(unstable) > 3 else ""
        found.append(
            "Shown for these trainings, but less than twice its standard error over seeds, so that other seeds may "
            f"turn it round: {'; '.join(unstable[:3])}{more}. Train more seeds."
        )
    if max(len(method.folds) for method in methods.methods) > 1:
        found.append(
            "The trainings of different folds share scans, so tests and intervals over several folds are approximate."
        )
    return found


def _failed(failures: Sequence[Failure]) -> str:
    """Which runs were left out, and that their scores would say nothing."""
    count = f"{len(failures)} run{'s' if len(failures) > 1 else ''}"
    return f"{count} left out as no result (diverged or not finished): {listed(failures)}."


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} methods"


def _setting(run: RunFolder, key: str) -> str | None:
    """One thing that a run's predictions were made with, as a word; None where the run does not tell."""
    value = _mapping(run.summary.get("protocol")).get(key)
    if key == "precision":
        # Runs of before predicted with the precision of their training.
        value = _mapping(run.config.get("trainer")).get(key) if value is None else value
        return None if value in (None, "auto") else printable(_PRECISIONS.get(str(value), value))
    if key == "test_time_augmentation" and value in (False, "none", []):
        return "none"
    return None if value is None else "on" if value is True else printable(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
