"""Differences between the configurations of methods, and short names derived from them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence

from segment.runs.config import flatten
from segment.runs.folder import RunFolder
from segment.runs.settings import ADDED
from segment.text import printable

_LONGEST_NAME = 40
_MOST_CHOICES = 3  # per name
_MOST_KEYS = 20  # candidates for a name
_RUN_KEYS = ("name", "output", "cache", "fold", "seed", "data.root")
_METRICS_KEY = "metrics"  # scoring other metrics does not make another method
_RUN_PART = re.compile(r"(fold|seed)\w+|(?=\d*[a-f])[0-9a-f]{8}")  # or the hash at the end of a shortened name


def config_differences(groups: Sequence[Sequence[RunFolder]]) -> dict[str, list[str | None]]:
    """Configuration keys that differ between methods.

    Args:
        groups: The runs of each method; those without a configuration are ignored.

    Returns:
        Dotted key -> its value in each method (several values of one method joined by commas), None where the method
        has no such key. What the plan decided (``planned``) comes last, since it follows from the other keys.
    """
    followers = seed_followers([run for group in groups for run in group])
    rows = [[_texts(run, followers) for run in group] for group in groups]
    known = [index for index, group in enumerate(groups) if any(run.config for run in group)]
    keys = dict.fromkeys(key for group in rows for row in group for key in row)
    found = {}
    for key in sorted(keys, key=lambda key: key.startswith("planned")):
        values = [", ".join(dict.fromkeys(row[key] for row in group if key in row)) or None for group in rows]
        if len({values[index] or "none" for index in known}) > 1:
            found[key] = values
    return found


def seed_followers(runs: Iterable[RunFolder]) -> set[str]:
    """Keys that equal ``seed`` in every run, such as the augmentation's, which is ``${seed}``."""
    rows = [flatten(run.config) for run in runs]
    keys = {key for row in rows for key in row if key.endswith(".seed")}
    return {key for key in keys if all(row.get(key) == row.get("seed") for row in rows if key in row)}


def _texts(run: RunFolder, without: Container[str] = ()) -> dict[str, str]:
    config = flatten(ADDED) | flatten(run.config) if run.config else {}
    row = {key: value for key, value in config.items() if key not in without and not is_metric_key(key)}
    return {printable(key): printable(value) for key, value in row.items()}


def is_metric_key(key: str) -> bool:
    """Whether a configuration key only selects metrics, which does not make another method."""
    return key.partition(".")[0] == _METRICS_KEY


def method_names(groups: Sequence[Sequence[RunFolder]], differences: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Short names of methods, derived from their differences.

    The value of the only key that differs; else the values of the fewest choices and overrides that distinguish the
    methods; else what differs between the names of the runs, or between their folders.

    Args:
        groups: The runs of each method.
        differences: The result of `config_differences`.

    Returns:
        Printable names, all distinct.
    """
    candidates = []
    if all(run.config for group in groups for run in group):
        names = [[printable(run.config.get("name") or "") for run in group] for group in groups]
        candidates = [_names_from_values(differences), _names_from_choices(groups)]
        candidates += [_names_from_runs(names, whole) for whole in (False, True)]
    folders = [[_folder(run) for run in group] for group in groups]
    candidates += [_names_from_runs(folders, whole) for whole in (False, True)]
    candidates += [[printable(run.path) for run, *_ in groups]]
    for found in candidates:
        short = [_short(name.strip()) for name in found]
        if all(short) and len(set(short)) == len(groups):
            return short
    return made_distinct([_short(group[0]) for group in folders])


def made_distinct(names: Sequence[str]) -> list[str]:
    """Number duplicate names: ``a, a (2)``."""
    taken: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        taken[name] += 1
        numbered = name if taken[name] == 1 else f"{name} ({taken[name]})"
        while numbered in found:
            taken[name] += 1
            numbered = f"{name} ({taken[name]})"
        found.append(numbered)
    return found


def _names_from_values(differences: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Values of the only key that differs, ignoring what follows from it."""
    chosen = {key: values for key, values in differences.items() if not key.startswith("planned")}
    if len(chosen) != 1:
        return []
    ((key, values),) = chosen.items()
    if None in values:
        return []
    return [_named(key, str(value)) for value in values]


def _named(key: str, value: str) -> str:
    """A value alone if it is a word, else with the last part of its key."""
    word = re.fullmatch(r"[^\W\d][\w./-]*", value) and value not in ("true", "false", "none")
    last = key.rpartition(".")[2]
    if key.endswith("._target_"):
        return value.rpartition(".")[2]
    return value if word else f"{last}={value}"


def _names_from_choices(groups: Sequence[Sequence[RunFolder]]) -> list[str]:
    """Values of the fewest choices and overrides that distinguish the methods, the network first."""
    # What one run overrides may be the configured default of another.
    chosen = [[run_choices(run) for run in group] for group in groups]
    configs = [[_texts(run) for run in group] for group in groups]
    keys = dict.fromkeys(key for group in chosen for row in group for key in row)
    table: dict[str, list[str]] = {}
    for key in sorted(keys, key=lambda key: (key != "network", "." in key)):
        values = [
            {row.get(key) or config.get(key, "") for row, config in zip(rows, own, strict=True)}
            for rows, own in zip(chosen, configs, strict=True)
        ]
        if all(len(own) == 1 and own != {""} for own in values) and len({*map(frozenset, values)}) > 1:
            table[key] = [_named(key, next(iter(own))) for own in values]
    for count in range(1, _MOST_CHOICES + 1):
        for some in itertools.combinations(list(table)[:_MOST_KEYS], count):
            names = [" ".join(words) for words in zip(*(table[key] for key in some), strict=True)]
            if len(set(names)) == len(groups):
                return names
    return []


def run_choices(run: RunFolder) -> dict[str, str]:
    """The recorded composition of a run: choices of configuration groups, and overrides by dotted key."""
    record = run.provenance
    recorded, words = record.get("choices"), record.get("overrides", record.get("command"))
    found = {str(key): str(value) for key, value in recorded.items()} if isinstance(recorded, Mapping) else {}
    overrides = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
    if "-m" not in overrides and "--multirun" not in overrides:  # the command of a sweep applies to all its runs
        matches = (re.fullmatch(r"\+{0,2}([\w./@]+)=(.+)", word, re.S) for word in overrides)
        found |= {match[1]: match[2] for match in matches if match}
    own = {key: value for key, value in found.items() if key not in _RUN_KEYS and not is_metric_key(key)}
    kept = {key: value for key, value in own.items() if key.isprintable()}
    return {printable(key): printable(value) for key, value in kept.items()}


def _names_from_runs(names: Sequence[Sequence[str]], whole: bool) -> list[str]:
    """What differs between the default names of runs, with or without their fold, seed and hash."""
    parts = [[_parts(name, whole) for name in group] for group in names]
    own = [[part for part in group[0] if all(part in other for other in group)] for group in parts]
    different = [[part for part in group if not all(part in other for other in own)] for group in own]
    return ["-".join(group) for group in (different if all(different) else own)]


def _parts(name: str, whole: bool) -> list[str]:
    parts = re.split(r"(?<!\de)-", name)  # not the minus in 1e-3
    return [part for part in parts if whole or not _RUN_PART.fullmatch(part)]


def _folder(run: RunFolder) -> str:
    path = run.path.resolve()
    return printable(path.stem if path.is_file() else path.name)


def _short(name: str) -> str:
    """A name, shortened in the middle if it is long."""
    half = (_LONGEST_NAME - 1) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
