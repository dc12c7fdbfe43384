"""What methods differ in, for people: the choices that were made, not every key that follows from them."""

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
# Change no number, so come late.
_OF_MACHINE = ("trainer.log_every_n_steps", "sampler.workers", "data.root", "formats", "logger")
_MOST_OF_GROUP = 6  # keys of one group
_PLANNED = ("patch_size", "batch_size", "spacing", "normalization")  # what a reader asks of a plan
# Key -> the key that it takes its value from, where nothing else is said.
_FOLLOWS = {"scheduler.max_lr": _LR} | {
    f"scheduler.{name}": "trainer.max_steps" for name in ("T_max", "total_steps", "total_iters", "t_total")
}
_OF_PLAN = {"batch": ("batch_dice",), "depths": ("blocks", "decoder_blocks")} | {
    name: (name,) for name in ("features", "strides", "kernel_sizes", "deep_supervision")
}
# What the sentence calls the parts of a recipe, in its order, by the beginning of their keys; the longest that fits.
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
    "callbacks.ema": "averaging of weights",
    "weights": "initial weights",
}


@dataclass(frozen=True)
class Recipes:
    """What methods differ in.

    Attributes:
        rows: Key -> value in each method, None where it has none: the choice of a group in the place of the keys that
            follow from it, the network first, then optimizer, learning rate, scheduler, loss, augmentation.
        others: Parts of the recipes that differ beside what the methods are named after, in plain words.
    """

    rows: Mapping[str, Sequence[str | None]]
    others: tuple[str, ...]


def recipes(
    names: Sequence[str], groups: Sequence[Sequence[RunFolder]], differences: Mapping[str, Sequence[str | None]]
) -> Recipes:
    """Find the few choices that the differences between configurations come from.

    Args:
        names: Names of the methods.
        groups: Their runs.
        differences: What `segment.evaluation.comparison.naming.config_differences` found: every key.

    Returns:
        What is to be shown and said.
    """
    told = {key: row for key, row in differences.items() if not _follows(key, differences)}
    chosen = [[run_choices(run) for run in group] for group in groups]
    given = {key for group in chosen for choices in group for key in choices}
    configs = [[flatten(run.config) for run in group] for group in groups]
    nodes = dict(_nodes(told, chosen, configs))
    rows: dict[str, Sequence[str | None]] = {}
    counts: dict[str, int] = {}
    for key in sorted({*told, *nodes}, key=_relevance):
        # A key that was given by hand does not follow from the choice above it.
        above = _above(key, nodes)
        if above and not (key in told and key in given):
            continue
        if key in nodes:
            rows[key] = _with_rate(nodes[key], differences) if key == "optimizer" else nodes[key]
        elif not key.endswith(("._partial_", _TARGET)) and not (key == _LR and "optimizer" in nodes):
            group = key.partition(".")[0]
            counts[group] = counts.get(group, 0) + 1
            if counts[group] <= _MOST_OF_GROUP:
                rows[key] = told[key]
    return Recipes(rows, tuple(_others(names, rows, nodes, differences)))


def _nodes(
    told: Mapping[str, Sequence[str | None]],
    chosen: Sequence[Sequence[Mapping[str, str]]],
    configs: Sequence[Sequence[Mapping[str, object]]],
) -> Iterator[tuple[str, Sequence[str | None]]]:
    """Parts of the configuration that are another object in each method, and what they are called there."""
    groups = [group for group in _ORDER if any(key.startswith(f"{group}.") for key in told)]
    targets = [key.removesuffix(_TARGET) for key in told if key.endswith(_TARGET)]
    for node in dict.fromkeys([*groups, *targets]):
        paths = [_shared(own, node + _TARGET) for own in configs]
        # A choice of the trainer or the sampler is a few numbers, which say more than its name.
        picked = [None if node in ("sampler", "plan", "trainer") else _shared(own, node) for own in chosen]
        classes = [path and path.rpartition(".")[2] for path in paths]
        named = [one or other for one, other in zip(picked, classes, strict=True)]
        for labels in (named, classes, paths):
            if len(set(labels)) > 1:
                yield node, labels
                break


def _shared(own: Sequence[Mapping[str, object]], key: str) -> str | None:
    """The values of a key in the runs of a method; None where one of them has none."""
    values = [row.get(key) for row in own]
    return ", ".join(dict.fromkeys(printable(value) for value in values)) if all(values) else None


def _follows(key: str, differences: Mapping[str, Sequence[str | None]]) -> bool:
    """Whether the values of a key are only those of another key that differs, or of the plan."""
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
    """Whether a part that contains the key is another object in each method."""
    parts = key.split(".")
    return any(".".join(parts[:end]) in nodes for end in range(1, len(parts)))


def _relevance(key: str) -> tuple[int, bool, bool, int, str]:
    """Sorts what a reader asks first to the front, and of one group the shortest key."""
    group = key.partition(".")[0]
    place = _ORDER.index(group) if group in _ORDER else len(_ORDER) + (group == "planned")
    late = key.startswith(_OF_MACHINE)
    return place + (100 if late else 0), key != group, key != _LR, len(key), key


def _with_rate(labels: Sequence[str | None], differences: Mapping[str, Sequence[str | None]]) -> Sequence[str | None]:
    """Optimizers with their learning rates, where these differ; older runs' ``adam_1e-4`` says its own once."""
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
    """The parts that differ beside those that the methods are named after."""
    parts: dict[str, list[Sequence[str | None]]] = {}
    for key, row in rows.items():
        start = max((start for start in _WORDS if f"{key}.".startswith(f"{start}.")), key=len, default="")
        if start and not key.startswith(_OF_MACHINE):
            parts.setdefault(_WORDS[start], []).append(nodes.get(key, row))
        if key == "optimizer" and _LR in differences:
            parts.setdefault(_WORDS[_LR], []).append(differences[_LR])
    named = {word for word, own in parts.items() if any(_is_in(names, values) for values in own)}
    if not named and "network" in parts:
        named = {"network"}
    # One choice alone is what the methods are called after, however a user names them.
    others = [word for word in dict.fromkeys(_WORDS.values()) if word in parts and word not in named]
    return others if len(parts) > 1 else []


def _is_in(names: Sequence[str], values: Sequence[str | None]) -> bool:
    """Whether every name holds its own value as a word."""
    return all(
        value is not None and re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", name)
        for name, value in zip(names, values, strict=True)
    )
