"""Notes on a comparison: how its numbers were computed, and its limitations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segment.evaluation.comparison.methods import Method, Methods
from segment.evaluation.comparison.result import Comparison
from segment.evaluation.comparison.splits import are_tests
from segment.metrics.metric import DIAGONAL, MEASURED, MetricInfo
from segment.runs.folder import RunFolder
from segment.runs.health import Failure, listed
from segment.runs.summary import merged_protocol, protocol_line
from segment.statistics.bootstrap import FEWEST_SCANS
from segment.text import printable

_SETTINGS = {
    "overlap": "window overlap",
    "test_time_augmentation": "test-time augmentation",
    "precision": "precision",
    "weights": "weights",
    "decision": "decision",
    "postprocessing": "post-processing",
}
_USUAL = {"decision": "argmax", "postprocessing": "none"}  # what a training does that does not record it
# Lightning's names -> the number formats that a summary may record instead.
_PRECISIONS = {
    **dict.fromkeys(("32", "32-true"), "fp32"),
    **dict.fromkeys(("16", "16-mixed", "16-true"), "fp16"),
    **dict.fromkeys(("bf16-mixed", "bf16-true"), "bf16"),
    **dict.fromkeys(("64", "64-true"), "fp64"),
}
_MOST_NAMED = 3
_MOST_LABELS = 5
_MOST_METHODS = 6


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


def notes(methods: Methods, comparison: Comparison) -> list[str]:
    """How the numbers of a comparison are to be read, and its limitations.

    Args:
        methods: The methods in the comparison.
        comparison: What was found; its notes may still be empty.

    Returns:
        Sentences.
    """
    pairs = comparison.pairs
    found = _tests(comparison)
    found += dict.fromkeys(notice for method in methods.methods for run in method.runs for notice in _notices(run))
    if methods.failed:
        found.append(_failed(methods.failed))
    if methods.left_out:
        found.append(f"{methods.left_out} scans were left out because not all runs have them.")
    if comparison.scarce:
        named = ", ".join(f"{label} ({count})" for label, count in comparison.scarce.items())
        found.append(
            f"The foreground has no interval: labels in fewer than {FEWEST_SCANS} scans or groups of scans: {named}."
        )
    unpaired = sum(pair.unpaired for pair in pairs if pair.structure != "foreground")
    if unpaired:
        found.append(
            f"{unpaired} times (over all pairs, scans and labels) one method correctly left a structure empty that the "
            f"other invented: the scan counts as won, and the invention as {_penalty(methods.metric)} in the mean."
        )
    found += _false_positives(methods.methods)
    opposite = [f"{pair.first} - {pair.second}, {pair.structure}" for pair in pairs if pair.opposite]
    if opposite:
        more = f"; {len(opposite) - 3} more" if len(opposite) > 3 else ""
        found.append(
            "Mean and single scans favour different methods (a few scans or a rare label decide the mean): "
            f"{'; '.join(opposite[:3])}{more}."
        )
    several = [method for method in methods.methods if _models(method) > 1]
    if several and are_tests([run for method in methods.methods for run in method.runs]):
        found.append(
            f"Each test scan's score is the mean over the models of the folds ({_named([m.name for m in several])}), "
            "not the score of their ensemble."
        )
    return found


def _models(method: Method) -> int:
    """Number of models of one seed."""
    counts = [_mapping(run.summary.get("protocol")).get("folds") for run in method.runs]
    return sum(count if isinstance(count, int) else 1 for count in counts) // method.seeds


def _penalty(metric: MetricInfo) -> str:
    words = {DIAGONAL: "the scan's diagonal", MEASURED: "measured"}
    return words[metric.penalty] if isinstance(metric.penalty, str) else f"{metric.penalty:g}"


def _notices(run: RunFolder) -> list[str]:
    """What the data set says of its results; a study enters several folds with the record of each."""
    parts = run.provenance.get("runs")
    records = [run.provenance, *(parts if isinstance(parts, list) else [])]
    return [printable(notice) for record in records if (notice := _mapping(record).get("notice"))]


def _tests(comparison: Comparison) -> list[str]:
    """What interval and p are about, and which of them are corrected."""
    scopes = sorted({pair.scope for pair in comparison.pairs})
    units = "scans" if comparison.groups is None else f"{comparison.groups} groups of scans"
    about = {
        "methods": f"Student's t over {units} and trainings",
        "trainings": f"{units} resampled and signs flipped, for these trained models only",
        "masks": f"{units} resampled and signs flipped, for these masks only",
    }
    found = [f"Interval and p: {', or '.join(about[scope] for scope in scopes)}."]
    if comparison.groups == 1:
        return ["All scans belong to one group (one patient, animal or film): no interval and no test beyond it."]
    if len(comparison.pairs) > 1:
        found.append("p is corrected (Holm) over all pairs, for labels over all pairs and labels; intervals are not.")
    if len(comparison.family) > 1:
        metrics = ", ".join(info.heading for info in comparison.family)
        found.append(f"p is corrected (Holm) over the metrics too: {metrics}.")
    if comparison.margin is not None:
        found.append(f"Equivalent means: within {comparison.margin:g} by two one-sided tests.")
    return found


def _false_positives(methods: Sequence[Method]) -> list[str]:
    """Rate and volume of structures in scans whose reference has none."""
    labels = dict.fromkeys(label for method in methods for label in method.false_positives)
    found = []
    for label in list(labels)[:_MOST_LABELS]:
        rates = [(method.name, method.false_positives[label]) for method in methods if label in method.false_positives]
        if not any(one.rate for _, one in rates):
            continue
        shown = sorted(rates, key=lambda pair: pair[1].rate)[:_MOST_METHODS]
        texts = [f"{name} {100 * one.rate:.0f} % ({one.voxels:,.0f} voxels)" for name, one in shown]
        found.append(f"{label} in {rates[0][1].empty} scans without it, false positives: {', '.join(texts)}.")
    return found


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
    if key in _USUAL and run.config:
        value = _USUAL[key] if value is None or str(value).startswith(_USUAL[key]) else value
    if key == "test_time_augmentation" and value in (False, "none", []):
        return "none"
    return None if value is None else "on" if value is True else printable(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
