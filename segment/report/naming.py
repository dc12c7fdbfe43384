"""What differs between the configurations of methods, and short names made of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from segment.report.files import flatten, printable
from segment.report.folder import RunFolder

_LONGEST_NAME = 40
_OF_A_RUN = re.compile(r"(fold|seed)\w+")


def config_differences(groups: Sequence[Sequence[RunFolder]]) -> dict[str, list[str | None]]:
    """Configuration keys that differ between methods.

    Args:
        groups: The runs of each method; those without a configuration tell nothing.

    Returns:
        Dotted key -> its value in each method, several ones of a method's runs with commas between them, None where
        the method has no such key. What the plan decided (``planned``) comes last, since it follows from the others.
    """
    rows = [[_texts(run) for run in group] for group in groups]
    known = [index for index, group in enumerate(groups) if any(run.config for run in group)]
    keys = dict.fromkeys(key for group in rows for row in group for key in row)
    found = {}
    for key in sorted(keys, key=lambda key: key.startswith("planned")):
        values = [", ".join(dict.fromkeys(row[key] for row in group if key in row)) or None for group in rows]
        if len({values[index] for index in known}) > 1:
            found[key] = values
    return found


def _texts(run: RunFolder) -> dict[str, str]:
    return {printable(key): printable(value) for key, value in flatten(run.config).items()}


def method_names(groups: Sequence[Sequence[RunFolder]], differences: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Short names of methods, made of what differs between them.

    The value of the only key that differs; else of the choices on their command lines; else what differs between the
    names of the runs; else the names of the folders.

    Args:
        groups: The runs of each method.
        differences: What `config_differences` found.

    Returns:
        Printable, unlike each other.
    """
    candidates = []
    if all(run.config for group in groups for run in group):
        names = [[printable(run.config.get("name") or "") for run in group] for group in groups]
        candidates = [_of_values(differences), _of_commands(groups)]
        candidates += [_of_run_names(names, whole) for whole in (False, True)]
    folders = [[_folder(run) for run in group] for group in groups]
    candidates += [[group[0] for group in folders] if max(map(len, folders)) == 1 else _of_run_names(folders, False)]
    candidates += [[printable(run.path) for run, *_ in groups]]
    for found in candidates:
        short = [_short(name.strip()) for name in found]
        if all(short) and len(set(short)) == len(groups):
            return short
    return unlike([_short(group[0]) for group in folders])


def unlike(names: Sequence[str]) -> list[str]:
    """Number names that stand there twice: ``a, a (2)``."""
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


def _of_values(differences: Mapping[str, Sequence[str | None]]) -> list[str]:
    """Values of the one key that differs, apart from what follows from it."""
    chosen = {key: values for key, values in differences.items() if not key.startswith("planned")}
    if len(chosen) != 1:
        return []
    ((key, values),) = chosen.items()
    if None in values:
        return []
    return [_named(key, str(value)) for value in values]


def _named(key: str, value: str) -> str:
    """A value by itself where it is a word, else with the last part of its key."""
    word = re.fullmatch(r"[^\W\d][\w./-]*", value) and value not in ("true", "false", "none")
    last = key.rpartition(".")[2]
    if key.endswith("._target_"):
        return value.rpartition(".")[2]
    return value if word else f"{last}={value}"


def _of_commands(groups: Sequence[Sequence[RunFolder]]) -> list[str]:
    """Choices on the command lines that differ, where every run of a method was started by itself and with them."""
    chosen = []
    for group in groups:
        overrides = [_overrides(run) for run in group]
        chosen.append(
            {key: value for key, value in overrides[0].items() if all(run.get(key) == value for run in overrides)}
        )
    keys = [key for key in chosen[0] if all(key in choices for choices in chosen)]
    keys = [key for key in keys if len({choices[key] for choices in chosen}) > 1]
    return [" ".join(_named(key, choices[key]) for key in keys) for choices in chosen]


def _overrides(run: RunFolder) -> dict[str, str]:
    """Overrides on the command line of a run; none of a sweep, whose runs share theirs."""
    command = run.provenance.get("command")
    words = [word for word in command if isinstance(word, str)] if isinstance(command, list) else []
    if "-m" in words or "--multirun" in words:
        return {}
    found = (re.fullmatch(r"\+{0,2}([\w./@]+)=(.+)", word, re.S) for word in words)
    pairs = {match[1]: printable(match[2]) for match in found if match}
    return {key: value for key, value in pairs.items() if key not in ("name", "output", "cache", "fold", "seed")}


def _of_run_names(names: Sequence[Sequence[str]], whole: bool) -> list[str]:
    """What differs between the names that runs are given by default, with or without their fold and seed."""
    parts = [[_parts(name, whole) for name in group] for group in names]
    own = [[part for part in group[0] if all(part in other for other in group)] for group in parts]
    different = [[part for part in group if not all(part in other for other in own)] for group in own]
    return ["-".join(group) for group in (different if all(different) else own)]


def _parts(name: str, whole: bool) -> list[str]:
    parts = re.split(r"(?<!\de)-", name)  # not the minus of 1e-3
    return [part for part in parts if whole or not _OF_A_RUN.fullmatch(part)]


def _folder(run: RunFolder) -> str:
    path = run.path.resolve()
    return printable(path.stem if path.is_file() else path.name)


def _short(name: str) -> str:
    """A name on one line, its middle left out when it is long."""
    half = (_LONGEST_NAME - 1) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"
