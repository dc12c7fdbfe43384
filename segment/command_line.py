"""Quotes the values of path keys for Hydra, so that users can type paths that Hydra's grammar would reject."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence

# Their values need no quoting, whatever characters they contain; name= is included for a clear error message.
PATHS = {
    *("auth", "cache", "calibration", "cascade", "current", "data.image", "data.label", "data.root", "folder"),
    *("input", "log", "model", "name", "output", "page", "plan", "plan.file", "predictions", "pruned_run"),
    *("reference", "references", "roi", "runs", "splits", "table", "weights", "write"),
}
LISTS = {"data.image", "references", "runs"}  # keys of one path or several
_SWITCHES = {"write"}  # keys that take a folder, or true or false
_OVERRIDE = re.compile(r"(\+{0,2})([\w.]+)=(.*)", re.S)
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_INTERPOLATION = r"\$\{(?:[^{}]|\$\{[^{}]*\})*\}"
_ITEM = re.compile(rf"(?:(\s*{_QUOTED}\s*)|((?:{_INTERPOLATION}|[^,])*))(?:,|\Z)", re.S)
_SWEEP = re.compile(r"(?:choice|glob|shuffle|sort|tag)\(.*\)", re.S)  # Hydra's sweep functions for strings


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments of a verb with the values of `PATHS` quoted for Hydra.

    Args:
        arguments: The command line after the verb. With ``-m`` a comma separates the choices of a sweep.
    """
    sweep = any(argument in ("-m", "--multirun", "hydra.mode=MULTIRUN") for argument in arguments)
    return [override(argument, sweep) for argument in arguments]


def override(argument: str, sweep: bool = False) -> str:
    """One argument with its value in Hydra's quotes if its key takes a path; any other argument unchanged.

    A path that exists is taken literally. Otherwise, values that are already in Hydra's quotes, ``${...}``, null, true
    and false for keys that take them, and lists for keys that take several paths keep their meaning. ``~/`` is
    expanded.

    Args:
        argument: As typed, such as ``input=scan (1).nii``.
        sweep: Whether a comma separates choices.
    """
    found = _OVERRIDE.fullmatch(argument)
    if found is None or found[2] not in PATHS:
        return argument
    sign, key, value = found.groups()
    choices = [value] if _exists(value) or not sweep else _choices(key, value)
    return f"{sign}{key}={','.join(_hydra_value(key, choice) for choice in choices)}"


def _hydra_value(key: str, value: str) -> str:
    """The value for one job."""
    word = value.lower()
    if word in ("", "null") or (key in _SWITCHES and word in ("true", "false")):
        return value
    if _exists(value):
        return quoted(_expanded(value))
    if re.fullmatch(_QUOTED, value, re.S) or _SWEEP.fullmatch(value) or (key == "plan" and value.startswith("{")):
        return value
    if key in LISTS and value.strip() and not re.fullmatch(_INTERPOLATION, value, re.S):
        bracketed = value.startswith("[") and value.endswith("]")
        items = list(_items(value[1:-1] if bracketed else value))
        return f"[{','.join(items)}]" if bracketed or len(items) > 1 else items[0]
    return quoted(_expanded(value))


def _choices(key: str, value: str) -> list[str]:
    """The choices of a sweep over a key."""
    if _SWEEP.fullmatch(value):
        return [value]
    if key in LISTS and value.startswith("["):
        return re.split(r"(?<=\])\s*,\s*(?=\[)", value)
    return [piece.strip() for piece in _pieces(value)]


def _pieces(text: str) -> Iterator[str]:
    """The parts between commas outside quotes and ``${...}``."""
    start = 0
    while start <= len(text):
        found = _ITEM.match(text, start)
        assert found is not None  # the pattern matches any text
        yield found[1] or found[2] or ""
        # A trailing comma starts one more, empty piece.
        start = found.end() if found[0].endswith(",") else len(text) + 1


def _items(text: str) -> Iterator[str]:
    """The quoted items of a list; a comma within the name of an existing path does not end the item."""
    pieces = list(_pieces(text)) if text.strip() else []
    while pieces:
        names = [",".join(pieces[:end]).strip() for end in range(1, len(pieces) + 1)]
        end = next((end for end, name in enumerate(names, 1) if _exists(name)), 1)
        name = names[end - 1]
        already_quoted = re.fullmatch(_QUOTED, name, re.S) and not _exists(name)
        yield name if already_quoted else quoted(_expanded(name))
        del pieces[:end]


def _expanded(value: str) -> str:
    # A shell expands ~/ at the start of a word only.
    return os.path.expanduser(value) if value == "~" or value.startswith("~/") else value  # noqa: PTH111


def _exists(value: str) -> bool:
    return "\0" not in value and os.path.lexists(_expanded(value))


def quoted(text: str) -> str:
    """A string in Hydra's quotes."""
    inside = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + (r"\'" if found[2] else ""), text)
    return f"'{inside}'"


def unquoted(value: str) -> str:
    """The string that Hydra reads from a quoted value; any other value unchanged."""
    if not re.fullmatch(_QUOTED, value, re.S):
        return value
    mark, inside = value[0], value[1:-1]
    return re.sub(rf"(\\+)({mark}|\Z)", lambda found: found[1][: len(found[1]) // 2] + found[2], inside)


def typed(argument: str) -> str:
    """A Hydra override as a user would type it: paths without quotes if `override` reads them the same."""
    found = _OVERRIDE.fullmatch(argument)
    if found is None or found[2] not in PATHS:
        return argument
    plain = f"{found[1]}{found[2]}={unquoted(found[3])}"
    return plain if override(plain) == override(argument) else argument


def assign(key: str, value: str | Sequence[str]) -> str:
    """``key=value`` for one or several paths, as a user would type it and `override` reads it."""
    if isinstance(value, str):
        return typed(f"{key}={quoted(value)}")
    exact, plain = f"{key}=[{','.join(map(quoted, value))}]", f"{key}=[{','.join(value)}]"
    return plain if override(plain) == exact else exact


def command(verb: str, *overrides: str) -> str:
    """A command that can be pasted into a shell.

    Args:
        verb: The verb.
        *overrides: As a user would type them, without the shell's quotes.
    """
    return shlex.join(["segment", verb, *overrides])
