"""Notes on a comparison: how its numbers were computed, and its limitations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segment.evaluation.comparison.methods import Method, Methods
from segment.evaluation.comparison.result import Pair
from segment.evaluation.comparison.splits import are_tests
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
# Lightning's names -> the number formats that a summary may record instead.
_PRECISIONS = {
    **dict.fromkeys(("32", "32-true"), "fp32"),
    **dict.fromkeys(("16", "16-mixed", "16-true"), "fp16"),
    **dict.fromkeys(("bf16-mixed", "bf16-true"), "bf16"),
    **dict.fromkeys(("64", "64-true"), "fp64"),
}
_MOST_NAMED = 3


def protocol(methods: Sequence[Method]) -> str:
    """One line that says how the numbers were computed; values that differ are listed together.

    Args:
        methods: The methods in the comparison.

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
    """Prediction settings that differ between methods.

    Args:
        methods: The methods, in the order in which they are named.

    Returns:
        Parts of a sentence, such as ``test-time augmentation mirror all against none``. A setting that a run does not
        record is not a difference.
    """
    found = []
    for key, title in _SETTINGS.items():
        by_value: dict[str, list[str]] = {}
        for method in methods:
            values = sorted({value for run in method.runs if (value := _setting(run, key)) is not None})
            if values:
                by_value.setdefault(" and ".join(values), []).append(method.name)
        if len(by_value) > 1:
            pair = len(methods) == 2
            texts = [value if pair else f"{value} ({_named(names)})" for value, names in by_value.items()]
            found.append(f"{title} {' against '.join(texts)}")
    return found


def notes(methods: Methods, pairs: Sequence[Pair]) -> list[str]:
    """Limitations of a comparison.

    Args:
        methods: The methods in the comparison.
        pairs: Their pairs.

    Returns:
        Sentences.
    """
    found = []
    if methods.failed:
        found.append(_failed(methods.failed))
    if methods.left_out:
        found.append(f"{methods.left_out} scans were left out because not all runs have them.")
    unpaired = sum(pair.unpaired for pair in pairs if pair.structure != "foreground")
    if unpaired:
        found.append(
            f"{unpaired} times (over all pairs, scans and labels) one method correctly left a structure empty that the "
            f"other invented: the missing score counts as {methods.metric.perfect:g} in the tests and in scans won."
        )
    unstable = [f"{pair.first} - {pair.second}" for pair in pairs if pair.unstable]
    if unstable:
        more = f"; {len(unstable) - 3} more" if len(unstable) > 3 else ""
        found.append(
            "Significant for these trainings, but less than twice the standard error over seeds, so other seeds may "
            f"reverse the difference: {'; '.join(unstable[:3])}{more}. Train more seeds."
        )
    several = [method for method in methods.methods if _models(method) > 1]
    if several and are_tests([run for method in methods.methods for run in method.runs]):
        found.append(
            f"Each test scan's score is the mean over the models of the folds ({_named([m.name for m in several])}), "
            "not the score of their ensemble."
        )
    if max(len(method.folds) for method in methods.methods) > 1:
        found.append(
            "Trainings of different folds share scans, so tests and intervals over several folds are approximate."
        )
    return found


def _models(method: Method) -> int:
    """Number of models of one seed."""
    counts = [_mapping(run.summary.get("protocol")).get("folds") for run in method.runs]
    return sum(count if isinstance(count, int) else 1 for count in counts) // method.seeds


def _failed(failures: Sequence[Failure]) -> str:
    """Which runs were left out, and why."""
    count = f"{len(failures)} run{'s' if len(failures) > 1 else ''}"
    return f"{count} left out (diverged or not finished): {listed(failures)}."


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} methods"


def _setting(run: RunFolder, key: str) -> str | None:
    """A prediction setting of a run, as a word; None if the run does not record it."""
    value = _mapping(run.summary.get("protocol")).get(key)
    if key == "precision":
        # Older runs predicted with the precision of their training.
        value = _mapping(run.config.get("trainer")).get(key) if value is None else value
        return None if value in (None, "auto") else printable(_PRECISIONS.get(str(value), value))
    if key == "test_time_augmentation" and value in (False, "none", []):
        return "none"
    return None if value is None else "on" if value is True else printable(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
