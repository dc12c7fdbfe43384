"""Explains in one paragraph why a configuration does not compose, with the closest valid name."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Sequence
from typing import get_type_hints

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from segment.config.build import describe_type, walk
from segment.config.options import OPTIONS
from segment.errors import did_you_mean

# Hydra plugins that our extras install.
EXTRAS = {
    "hydra/sweeper=optuna": "sweep",
    "hydra/launcher=joblib": "sweep",
    "hydra/launcher=submitit_local": "cluster",
    "hydra/launcher=submitit_slurm": "cluster",
}


def explain(error: Exception, verb: str, arguments: Sequence[str]) -> str:
    """Explain in one paragraph why a configuration could not be composed.

    Args:
        error: The exception that Hydra or OmegaConf raised.
        verb: The verb that the configuration belongs to.
        arguments: The command line after the verb.
    """
    text = str(error)
    for pattern, describe in (
        (
            r"Could not find '(?P<path>[^']+)'\s+Available options in '(?P<group>[^']*)':(?P<names>.*?)(?:Config s|$)",
            _choice,
        ),
        (r"Could not find '(?P<path>[^']+)'", _no_group),
        (r"Could not override '(?P<key>[^']+)'", _key),
        (r"Key '(?P<name>[^']+)' is not in struct\s+full_key: (?P<key>\S+)", _key),
        (r"Missing mandatory value: (?P<key>[\w.]+)", _missing),
        (
            r"(?:(?:Value|value|container) '(?P<value>.*?)' .*)?full_key: (?P<key>\S+)\s+object_type=(?P<options>\w+)",
            _kind,
        ),
        (r"You must specify '(?P<key>[^']+)'.*?Available options:(?P<names>.*)", _missing),
    ):
        found = re.search(pattern, text, re.S)
        if found:
            return describe(found.groupdict(), verb, arguments)
    return " ".join(text.split())


def _choice(found: dict[str, str], verb: str, arguments: Sequence[str]) -> str:
    name, names = found["path"].rpartition("/")[2], found["names"].split()
    if (choice := f"{found['group']}={name}") in EXTRAS:
        extra = EXTRAS[choice]
        return f"{choice}: is not installed. Install the extra {extra}: pip install -c constraints.txt '.[{extra}]'"
    return f"{found['group']}={name}: there is no such choice.{did_you_mean(name, names)} Choices: {', '.join(names)}."


def _no_group(found: dict[str, str], verb: str, arguments: Sequence[str]) -> str:
    return f"{found['path']}: there is no such configuration. 'segment list studies' lists the experiments."


def _key(found: dict[str, str], verb: str, arguments: Sequence[str]) -> str:
    key = found["key"]
    near = near_keys(key, verb, [override for override in arguments if override.lstrip("+~").partition("=")[0] != key])
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"{key}: there is no such key.{meant} 'segment {verb} --cfg job' prints all keys."


def _kind(found: dict[str, str], verb: str, arguments: Sequence[str]) -> str:
    options = next(kind for kind in OPTIONS.values() if kind.__name__ == found["options"])
    kind = describe_type(get_type_hints(options)[found["key"].partition(".")[0].partition("[")[0]])
    return f"{found['key']}={found['value'] or ''}: give {kind}."


def _missing(found: dict[str, str], verb: str, arguments: Sequence[str]) -> str:
    names = found.get("names", "").split()
    choices = f" Choices: {', '.join(names)}." if names else f" 'segment {verb} --cfg job' shows the configuration."
    return f"{found['key']}: a value is required, give {found['key']}=VALUE.{choices}"


def near_keys(word: str, verb: str, arguments: Sequence[str]) -> list[str]:
    """Keys that a word may stand for: the key itself, keys that end in it or in ``max_`` and it, or the closest one.

    Args:
        word: Such as ``lr`` (optimizer.lr), ``epochs`` (trainer.max_epochs) or ``network.encoder.featurs``.
        verb: The verb.
        arguments: The command line after it, as Hydra reads it.
    """
    keys = _all_keys(verb, [override for override in arguments if "=" in override and not override.startswith("-")])
    if word in keys:
        return [word]
    last = word.rpartition(".")[2]
    for name in (last, f"max_{last}"):
        if ending := [key for key in keys if key.rpartition(".")[2] == name]:
            return sorted(ending, key=lambda key: key.count("."))[:2]
    return difflib.get_close_matches(word, keys, n=1)


def _all_keys(verb: str, overrides: Sequence[str]) -> list[str]:
    """Dotted keys of the verb's configuration with these overrides, or with fewer if they do not compose."""
    choices = [override for override in overrides if "." not in override.partition("=")[0]]
    for tried in (overrides, choices, []):
        GlobalHydra.instance().clear()
        with (
            contextlib.suppress(HydraException, OmegaConfBaseException),
            hydra.initialize(version_base="1.3", config_path=None),
        ):
            return [key for key, _ in walk(hydra.compose(verb, [*tried]))]
    return []
