"""Checks the words of a command line before Hydra reads them: options, words that are not key=value, and Slurm."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from segment.command_line import PATHS
from segment.errors import UserError

SLURM = "hydra/launcher=submitit_slurm"
NULL_CHOICES = {"augment": "none", "logger": "none", "metrics": "[]", "scheduler": "constant"}  # what GROUP=null means
NULL_BY_DEFAULT = {"train": ("debug", "training"), "predict": ("inference",)}
REQUIRED = ("callbacks", "data", "inference", "loss", "network", "optimizer", "sampler", "trainer")


def parse(verb: str, arguments: Sequence[str], usage: str, near: Callable[[str], Sequence[str]]) -> argparse.Namespace:
    """Parse a verb's command line with Hydra's parser.

    Args:
        verb: The verb.
        arguments: The command line after it, as Hydra reads it.
        usage: The verb's usual keys, for messages.
        near: Finds the keys that a word may stand for.

    Returns:
        What `hydra._internal.utils._run_hydra` takes.

    Raises:
        UserError: When a word is neither key=value nor an option, options exclude each other, or the launcher needs a
            Slurm cluster and there is none.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}. 'segment {verb} --help' lists the options.")

    parser.error = refuse  # type: ignore[method-assign]
    found, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UserError(_unknown_option(verb, unknown[0], arguments, near))
    words = [word for word in found.overrides if "=" not in word and not word.startswith("~")]
    if words:
        raise UserError(_bare_word(verb, words, arguments, usage, near))
    if found.multirun and (found.cfg or found.info):
        raise UserError(
            "--cfg prints the configuration of a single job: leave out -m, and give one value for each key."
        )
    if found.resolve and not found.cfg:
        raise UserError("--resolve: belongs to --cfg, as in 'segment train --cfg job --resolve'.")
    if SLURM in found.overrides and not (found.cfg or found.help) and shutil.which("srun") is None:
        raise UserError(
            f"{SLURM}: there is no Slurm on this machine (srun is not found). Start the command on a login node of the "
            "cluster, or use hydra/launcher=joblib to run the jobs here."
        )
    return found


def without_null(verb: str, arguments: Sequence[str]) -> list[str]:
    """The arguments without ``GROUP=null``, which Hydra does not accept: the choice that means it, or nothing.

    Args:
        verb: The verb.
        arguments: The command line after it.

    Raises:
        UserError: When the group is required.
    """
    found = []
    for argument in arguments:
        group, _, value = argument.partition("=")
        if value not in ("null", "None"):
            found.append(argument)
        elif group in NULL_CHOICES:
            found.append(f"{group}={NULL_CHOICES[group]}")
        elif group in REQUIRED and group not in NULL_BY_DEFAULT.get(verb, ()):
            if group == "callbacks":
                raise UserError(
                    f"{argument}: removes callbacks.last too, which saves what is trained. Remove others, one by one: "
                    "callbacks.panels=null."
                )
            raise UserError(f"{argument}: a value is required. 'segment {verb} --help' lists the choices.")
        elif group not in NULL_BY_DEFAULT.get(verb, NULL_BY_DEFAULT["train"]):
            found.append(argument)
    return found


def _unknown_option(verb: str, option: str, arguments: Sequence[str], near: Callable[[str], Sequence[str]]) -> str:
    """What to say of ``--epochs 10``."""
    name, _, value = option.lstrip("-").partition("=")
    if not value:
        following = arguments[[*arguments].index(option) + 1 :][:1]
        value = next((word for word in following if "=" not in word and not word.startswith("-")), "VALUE")
    return f"{option}: is not an option; settings are given as key=value.{_meant(near(name.replace('-', '_')), value)}"


def _bare_word(
    verb: str, words: Sequence[str], arguments: Sequence[str], usage: str, near: Callable[[str], Sequence[str]]
) -> str:
    """What to say of ``train data auto``, ``compare A B`` and a path with a space that was not quoted."""
    word = words[0]
    position = [*arguments].index(word)
    before = arguments[position - 1].partition("=") if position else ("", "", "")
    following = words[1] if len(words) > 1 and arguments[position + 1 : position + 2] == [words[1]] else None
    start = f"{word!r} is not key=value."
    if verb == "compare":
        return f"{start} Did you mean 'runs=[{','.join(words)}]'?"
    if before[1] and before[0].lstrip("+") in PATHS:
        value = before[2].strip("'")
        return f"{start} If it belongs to {before[0]}, quote the value: '{before[0]}={value} {word}'."
    if keys := near(word):
        return f"{start}{_meant(keys, following or 'VALUE')}"
    return f"{start} Usage: segment {verb} {usage}"


def _meant(keys: Sequence[str], value: str) -> str:
    return f" Did you mean {' or '.join(f'{key}={value}' for key in keys)}?" if keys else ""
