"""Differences between methods for readers: the choices that were made, not every key that follows from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from segment.evaluation.comparison.naming import run_choices
from segment.runs.config import flatten
from segment.runs.folder import RunFolder
from segment.text import printable

_TARGET = "._target_"
_LR = "optimizer.lr"
_ORDER = ("network", "optimizer", "scheduler", "loss", "augment", "sampler", "plan", "trainer", "inference")
# These do not change the numbers, so they come late.
_OF_MACHINE = ("trainer.log_every_n_steps", "sampler.workers", "data.root", "formats", "logger")
_MOST_OF_GROUP = 6  # keys per group
_PLANNED = ("patch_size", "batch_size", "spacing", "normalization")  # what readers look for in a plan
# Key -> the key that its default value comes from.
_FOLLOWS = {"scheduler.max_lr": _LR} | {
    f"scheduler.{name}": "trainer.max_steps" for name in ("T_max", "total_steps", "total_iters", "t_total")
}
_OF_PLAN = {"batch": ("batch_dice",), "depths": ("blocks", "decoder_blocks")} | {
    name: (name,) for name in ("features", "strides", "kernel_sizes", "deep_supervision")
}
# Key prefix -> name of that part of a recipe in the conclusion, in this order; the longest matching prefix wins.
_WORDS = {
    "network": "network",
    "optimizer": "optimizer",
    _LR: "learning rate",
    "scheduler": "scheduler",
    "loss": "loss",
    "augment": "augmentation",
    "sampler": "sampling",
    "plan": "plan",
    "planned": "plan",
    "trainer.max_steps": "number of steps",
    "trainer.gradient_clip_val": "gradient clipping",
    "trainer.accumulate_grad_batches": "gradient accumulation",
    "callbacks.ema": "weight averaging",
    "weights": "initial weights",
}


@dataclass(frozen=True)
class Recipes:
    """Differences between methods.

    Attributes:
        rows: Key -> value in each method, None where it has none. The choice of a group replaces the keys that follow
            from it. The network comes first, then optimizer, learning rate, scheduler, loss, augmentation.
        others: Parts of the recipes that also differ but are not in the names of the methods, in plain words.
    """

    rows: Mapping[str, Sequence[str | None]]
    others: tuple[str, ...]


def recipes(
    names: Sequence[str], groups: Sequence[Sequence[RunFolder]], differences: Mapping[str, Sequence[str | None]]
) -> Recipes:
    """Find the few choices that explain the differences between configurations.

    Args:
        names: Names of the methods.
        groups: Their runs.
        differences: The result of `segment.evaluation.comparison.naming.config_differences`, with every key.

    Returns:
        The differences to show and to name.
    """
    independent = {key: row for key, row in differences.items() if not _follows(key, differences)}
    chosen = [[run_choices(run) for run in group] for group in groups]
    set_by_user = {key for group in chosen for choices in group for key in choices}
    configs = [[flatten(run.config) for run in group] for group in groups]
    nodes = dict(_nodes(independent, chosen, configs))
    rows: dict[str, Sequence[str | None]] = {}
    counts: dict[str, int] = {}
    for key in sorted({*independent, *nodes}, key=_relevance):
        # A key that the user set does not follow from the choice above it.
        above = _above(key, nodes)
        if above and not (key in independent and key in set_by_user):
            continue
        if key in nodes:
            rows[key] = _with_learning_rate(nodes[key], differences) if key == "optimizer" else nodes[key]
        elif not key.endswith(("._partial_", _TARGET)) and not (key == _LR and "optimizer" in nodes):
            group = key.partition(".")[0]
            counts[group] = counts.get(group, 0) + 1
            if counts[group] <= _MOST_OF_GROUP:
                rows[key] = independent[key]
    return Recipes(rows, tuple(_others(names, rows, nodes, differences)))


def _nodes(
    independent: Mapping[str, Sequence[str | None]],
    chosen: Sequence[Sequence[Mapping[str, str]]],
    configs: Sequence[Sequence[Mapping[str, object]]],
) -> Iterator[tuple[str, Sequence[str | None]]]:
    """Parts of the configuration that are different objects in the methods, and their names there."""
    groups = [group for group in _ORDER if any(key.startswith(f"{group}.") for key in independent)]
    targets = [key.removesuffix(_TARGET) for key in independent if key.endswith(_TARGET)]
    for node in dict.fromkeys([*groups, *targets]):
        paths = [_shared(own, node + _TARGET) for own in configs]
        # A choice of trainer, sampler or plan is a few numbers, which say more than its name.
        picked = [None if node in ("sampler", "plan", "trainer") else _shared(own, node) for own in chosen]
        classes = [path and path.rpartition(".")[2] for path in paths]
        named = [one or other for one, other in zip(picked, classes, strict=True)]
        for labels in (named, classes, paths):
            if len(set(labels)) > 1:
                yield node, labels
                break


def _shared(own: Sequence[Mapping[str, object]], key: str) -> str | None:
    """The values of a key in the runs of a method; None if a run has none."""
    values = [row.get(key) for row in own]
    return ", ".join(dict.fromkeys(printable(value) for value in values)) if all(values) else None


def _follows(key: str, differences: Mapping[str, Sequence[str | None]]) -> bool:
    """Whether the values of a key only repeat those of another key that differs, or of the plan."""
    row, (head, _, rest) = differences[key], key.partition(".")
    if head == "planned":
        return rest not in _PLANNED or f"plan.{rest}" in differences
    last = key.rpartition(".")[2]
    leaders = [_FOLLOWS.get(key, ""), *(f"planned.{name}" for name in _OF_PLAN.get(last, ()))]
    return any(
        all(value in (None, other) for value, other in zip(row, differences[leader], strict=True))
        for leader in leaders
        if leader in differences
    )


def _above(key: str, nodes: Mapping[str, object]) -> bool:
    """Whether a part that contains the key is a different object in the methods."""
    parts = key.split(".")
    return any(".".join(parts[:end]) in nodes for end in range(1, len(parts)))


def _relevance(key: str) -> tuple[int, bool, bool, int, str]:
    """Sort key: most relevant first, and within a group the shortest key first."""
    group = key.partition(".")[0]
    place = _ORDER.index(group) if group in _ORDER else len(_ORDER) + (group == "planned")
    late = key.startswith(_OF_MACHINE)
    return place + (100 if late else 0), key != group, key != _LR, len(key), key


def _with_learning_rate(
    labels: Sequence[str | None], differences: Mapping[str, Sequence[str | None]]
) -> Sequence[str | None]:
    """Optimizers with their learning rates where these differ, not repeated for names such as ``adam_1e-4``."""
    rates = differences.get(_LR)
    if rates is None:
        return labels
    kinds = [label and re.sub(r"_\d+(\.\d+)?(e-?\d+)?$", "", label) for label in labels]
    pairs = zip(kinds, rates, strict=True)
    return [" lr ".join(filter(None, pair)) if pair[1] else pair[0] for pair in pairs]


def _others(
    names: Sequence[str],
    rows: Mapping[str, Sequence[str | None]],
    nodes: Mapping[str, Sequence[str | None]],
    differences: Mapping[str, Sequence[str | None]],
) -> list[str]:
    """The parts that differ but are not in the names of the methods."""
    parts: dict[str, list[Sequence[str | None]]] = {}
    for key, row in rows.items():
        start = max((start for start in _WORDS if f"{key}.".startswith(f"{start}.")), key=len, default="")
        if start and not key.startswith(_OF_MACHINE):
            parts.setdefault(_WORDS[start], []).append(nodes.get(key, row))
        if key == "optimizer" and _LR in differences:
            parts.setdefault(_WORDS[_LR], []).append(differences[_LR])
    named = {word for word, own in parts.items() if any(_all_contain_value(names, values) for values in own)}
    if not named and "network" in parts:
        named = {"network"}
    # A single choice is what distinguishes the methods, whatever names the user gives.
    others = [word for word in dict.fromkeys(_WORDS.values()) if word in parts and word not in named]
    return others if len(parts) > 1 else []


def _all_contain_value(names: Sequence[str], values: Sequence[str | None]) -> bool:
    """Whether every name contains its own value as a word."""
    return all(
        value is not None and re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", name)
        for name, value in zip(names, values, strict=True)
    )
