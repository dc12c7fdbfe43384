"""Names of runs: short, unique for every configuration, made of letters, digits, ``.``, ``-`` and ``_`` only."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

from omegaconf import DictConfig

from segment.command_line import PATHS, unquoted
from segment.config.build import walk
from segment.errors import UserError
from segment.workflow.experiment import Command

MAX_LENGTH = 60  # of the part for data and network, and of the part for the overrides unless their keys need more
_SHORT = 6  # letters of a value that are always kept
_MOST = 140  # of the part for the overrides: a file's name has at most 255 characters
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?"
_WORD = r"[A-Za-z](?:[A-Za-z0-9_.]*[A-Za-z0-9])?"
# Overrides that the name need not repeat, or that do not change the configuration.
_OMITTED = (
    r"data\.root|method|fold|formats|seed|name|output|cache|trainer|sampler\.workers|logger|logger\..*|metrics|metrics\..*|postprocessing|calibration"
    r"|experiments/.*|nested(?==false)"
)


def run_name(config: DictConfig, command: Command) -> str:
    """The name of a run: data set, network, fold and seed, then the other overrides of the command line, abbreviated.

    Long values are cut, keys are not, so that the runs of a sweep show what was varied. A name that was cut, or that
    does not fully determine the configuration, ends with a hash of it.
    """
    choices = command.choices
    study = next(
        (f"{group.split('/', 1)[1]}-{name}" for group, name in choices.items() if group.startswith("experiments/")),
        None,
    )
    data = str(config.data.get("name") or Path(str(config.data.get("root", "data"))).name)
    subject = study or f"{data}-{choices['network']}"
    subject = f"{choices['method']}-{subject}" if "method" in choices else subject
    omitted = re.compile(rf"\+?(?:{'' if study else 'data|network|'}{_OMITTED})=")  # a study sets data and network
    rest = [override for override in command.overrides if not omitted.match(override)]
    rest.sort(key=lambda override: ("." in override.partition("=")[0], override))  # whole choices first
    known = {key for key, _ in walk(config)} | {str(group) for group in choices}
    words = [_abbreviated(override, known) for override in rest]
    parts = [cleaned(subject)[:MAX_LENGTH], f"fold{config.fold}", f"seed{config.seed}"]
    text = "-".join(word for word, *_ in words)
    complete = parts[0] == subject and len(text) <= MAX_LENGTH and all(exact for *_, exact in words)
    if len(text) > MAX_LENGTH:
        text = _shortened([(word, key) for word, key, _ in words], MAX_LENGTH - 9)
    parts += [text] if text else []
    parts += [] if complete else [f"{zlib.crc32(chr(10).join([subject, *rest]).encode()):08x}"]
    return "-".join(parts)


def checked_name(name: str) -> str:
    """Check the name that a user gives to a run.

    Raises:
        UserError: When it contains other characters, with the closest valid name.
    """
    if (better := cleaned(name)) != name:
        raise UserError(
            f"name={name}: the name of a run may contain letters, digits, '.', '-' and '_' only. Give name={better}; "
            "output=FOLDER accepts any folder."
        )
    return name


def cleaned(text: str) -> str:
    """The text without accents, and with ``_`` in place of characters that the name of a run may not contain."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    found = re.sub(r"[^A-Za-z0-9._-]+", "_", plain)
    return found if found.strip(".") else "_"


def _shortened(words: Sequence[tuple[str, int]], limit: int) -> str:
    """Join words that are too long together, the longest values cut; keys and short values stay.

    Args:
        words: Each word, and the number of letters of its key, with which it begins.
        limit: Number of characters to keep to if keys and short values leave room for it.
    """
    for length in range(max(len(word) - key for word, key in words), _SHORT, -1):
        if len(text := "-".join(word[: key + length].rstrip("-_.") for word, key in words)) <= limit:
            return text
    text = "-".join(word[: key + _SHORT].rstrip("-_.") for word, key in words)
    share = max(1, _MOST // len(words) - 1)
    return text if len(text) <= _MOST else "-".join(word[:share].rstrip("-_.") for word, _ in words)[:_MOST].rstrip("-")


def _abbreviated(override: str, known: Collection[str]) -> tuple[str, int, bool]:
    """An override as a part of a name, how long its key is there, and whether it fully determines the override."""
    if override.startswith("~"):
        word = f"without_{cleaned(override[1:])}"
        return word, len(word), bool(re.fullmatch(r"~[\w.]+", override, re.A))
    key, _, value = override.partition("=")
    exact, key = key in known, key.lstrip("+")
    short = cleaned(_short_key(key, known))
    if key in PATHS:
        value, exact = Path(unquoted(value)).name, False
    if numbers := re.fullmatch(rf"\[({_NUMBER}(?:,{_NUMBER})*)\]", value):
        text = numbers[1].replace(",", "x")
    else:
        text = cleaned(re.sub(r"[\s\[\]'\"]", "", value).replace(",", "-")).strip("_")
        exact = exact and bool(re.fullmatch(f"{_NUMBER}|{_WORD}", value))
    # lr0.1, but loss_dice: no separator is needed between a letter and a digit.
    separator = "" if text[:1].isdigit() and not short[-1:].isdigit() else "_"
    return f"{short}{separator}{text or 'none'}", len(short), exact


def _short_key(key: str, known: Collection[str]) -> str:
    """The shortest ending of a key that no other key ends with; ``steps`` for ``max_steps`` if that is unique too."""
    parts = key.split(".")
    tails = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
    for tail in (tails[0].removeprefix("max_"), *tails):
        if not any(other != key and f".{other}".endswith(f".{tail}") for other in known):
            return tail
    return key
