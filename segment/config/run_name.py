"""What a run is called: letters, digits, ``.``, ``-`` and ``_`` only, short, and no two configurations alike."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Collection
from pathlib import Path

from omegaconf import DictConfig

from segment.command_line import PATHS, unquoted
from segment.config.build import walk
from segment.errors import UserError
from segment.workflow.experiment import Command

LONGEST = 60  # of what names the data and the network, and of what names the overrides
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?"
_WORD = r"[A-Za-z](?:[A-Za-z0-9_.]*[A-Za-z0-9])?"
_TOLD = (
    r"data\.root|fold|formats|seed|name|output|cache|trainer|sampler\.workers|logger|logger\..*|metrics|metrics\..*"
    r"|experiments/.*"
)


def run_name(config: DictConfig, command: Command) -> str:
    """Data set, network, fold and seed, and whatever else was overridden on the command line, abridged.

    A name that was cut, or that does not tell all of what it stands for, ends with a hash of it.
    """
    choices = command.choices
    study = next(
        (f"{group.split('/', 1)[1]}-{name}" for group, name in choices.items() if group.startswith("experiments/")),
        None,
    )
    data = str(config.data.get("name") or Path(str(config.data.get("root", "data"))).name)
    subject = study or f"{data}-{choices['network']}"
    told = re.compile(rf"\+?(?:{'' if study else 'data|network|'}{_TOLD})=")  # a study's run has its own data, network
    rest = [override for override in command.overrides if not told.match(override)]
    rest.sort(key=lambda override: ("." in override.partition("=")[0], override))  # whole choices first
    known = {key for key, _ in walk(config)} | {str(group) for group in choices}
    words = [_abridged(override, known) for override in rest]
    parts = [cleaned(subject)[:LONGEST], f"fold{config.fold}", f"seed{config.seed}"]
    text = "-".join(word for word, _ in words)
    tells_all = parts[0] == subject and len(text) <= LONGEST and all(exact for _, exact in words)
    if len(text) > LONGEST:
        text = text[: LONGEST - 9].rpartition("-")[0] or text[: LONGEST - 9]
    parts += [text] if text else []
    parts += [] if tells_all else [f"{zlib.crc32(chr(10).join([subject, *rest]).encode()):08x}"]
    return "-".join(parts)


def checked_name(name: str) -> str:
    """The name that a user gives.

    Raises:
        UserError: When it holds other characters, with the nearest name that does not.
    """
    if (better := cleaned(name)) != name:
        raise UserError(
            f"name={name}: the name of a run holds letters, digits, '.', '-' and '_' only. Give name={better}; "
            "output=FOLDER takes any folder."
        )
    return name


def cleaned(text: str) -> str:
    """A text with ``_`` for what the name of a run does not hold, accents left out."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    found = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)
    return found if found.strip(".") else "_"


def _abridged(override: str, known: Collection[str]) -> tuple[str, bool]:
    """An override as a part of a name, and whether it tells all of it."""
    if override.startswith("~"):
        return f"without_{cleaned(override[1:])}", bool(re.fullmatch(r"~[\w.]+", override, re.A))
    key, _, value = override.partition("=")
    exact, key = key in known, key.lstrip("+")
    short = cleaned(_short_key(key, known))
    if key in PATHS:
        value, exact = Path(unquoted(value)).name, False
    if numbers := re.fullmatch(rf"\[({_NUMBER}(?:,{_NUMBER})*)\]", value):
        shown = numbers[1].replace(",", "x")
    else:
        shown = cleaned(re.sub(r"[\s\[\]'\"]", "", value).replace(",", "-")).strip("_")
        exact = exact and bool(re.fullmatch(f"{_NUMBER}|{_WORD}", value))
    # lr0.1, but loss_dice: letters and digits tell themselves apart.
    between = "" if shown[:1].isdigit() and not short[-1:].isdigit() else "_"
    return f"{short}{between}{shown or 'none'}", exact


def _short_key(key: str, known: Collection[str]) -> str:
    """The last parts of a key, as many as no other key ends with; ``steps`` for ``max_steps`` where that holds too."""
    parts = key.split(".")
    tails = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
    for tail in (tails[0].removeprefix("max_"), *tails):
        if not any(other != key and f".{other}".endswith(f".{tail}") for other in known):
            return tail
    return key
