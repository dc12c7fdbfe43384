"""The code blocks of Markdown pages: which are run, which are files, and what the others must satisfy.

A block after the comment ``<!-- run -->`` is run, or, if its first line is the comment ``# path/name.yaml`` (or .py,
.csv, .md), written to that file without this line. A ``text`` block after ``<!-- output -->`` is what the block before
it printed; numbers may differ, and ``...`` stands for anything. All other blocks are checked without being run; see
`check`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

import segment
from segment.cli import VERBS
from segment.command_line import for_hydra
from segment.config.build import check_targets
from segment.config.compose import compose_command

REPOSITORY = Path(__file__).parents[2]
LANGUAGES = ("sh", "python", "yaml", "json", "text")
PROGRAMS = (
    "torchrun",
    "cd",
    "cp",
    "export",
    "itksnap",
    "mkdir",
    "pip",
    "printf",
    "pre-commit",
    "source",
    "tensorboard",
    "wandb",
)
"""Programs that pages show besides `segment`, make and Python."""

_FENCE = re.compile(r"(?:<!-- (?P<declared>.*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
_FILE = re.compile(r"# ((?:[\w.-]+/)*[\w-]+\.(?:py|yaml|csv|md))\n")
_NUMBER = re.compile(r"\\?-?\d+(?:(?:\\?[.,:])\d+)*")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: Its line in the page.
        language: What follows the fence.
        text: Its content.
        declared: ``run``, ``output`` or empty.
    """

    line: int
    language: str
    text: str
    declared: str

    @property
    def file(self) -> str | None:
        """The file that it is the content of."""
        found = _FILE.match(self.text) if self.declared == "run" else None
        return found[1] if found else None

    @property
    def content(self) -> str:
        """The content of its file."""
        return self.text.split("\n", 1)[1]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(text.count("\n", 0, m.start()) + 1, m["language"], m["text"], m["declared"] or "")
        for m in _FENCE.finditer(text)
    ]
    assert 2 * len(found) == len(re.findall("^```", text, re.M)), f"{page}: a fence is not closed, or indented"
    return found


def commands(text: str) -> list[list[str]]:
    """The words of each command of a shell block; lines that end in a backslash go on."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def check(block: Block) -> None:
    """Check a block that is not run.

    Commands of segment must compose, and every ``_target_`` accept its parameters; other commands must name files that
    exist. Python must compile, and what it takes from segment must exist and accept the arguments. YAML and JSON must
    be valid.
    """
    match block.language:
        case "sh":
            for words in commands(block.text):
                check_command(words)
        case "python":
            check_python(block.text)
        case "yaml":
            yaml.safe_load(block.text)
        case "json":
            json.loads(block.text)


def check_command(words: list[str]) -> None:
    """Check one command line."""
    program, *arguments = words[1:] if words[0] == "srun" else words
    if program.endswith("/python") or program in ("python", "python3"):
        for word in arguments:
            assert not re.search(r"\.py$|^tests/", word) or (REPOSITORY / word).exists(), word
    elif program == "make":
        assert re.search(rf"^{arguments[0]}:", (REPOSITORY / "Makefile").read_text(), re.M), words
    elif Path(program).name == "segment":
        check_segment(*arguments)
    else:
        assert program in PROGRAMS, f"{program}: is it a program that a reader has?"


def check_segment(verb: str, *arguments: str) -> None:
    """Check a command line of segment: with the first value of every swept key, then with each further choice."""
    assert verb in VERBS, verb
    words = [word for word in arguments if word not in ("-m", "--help")]
    if verb in ("list", "show") and words and "=" not in words[0]:
        words[0] = f"what={words[0]}"
    values = [(given, list(swept(given))) for given in OverridesParser.create().parse_overrides(for_hydra(words))]
    first = [alternatives[0] for _, alternatives in values]
    compose(verb, first)
    for place, (given, alternatives) in enumerate(values):
        for other in alternatives[1:] if given.key_or_group in ("network", "loss", "data") else []:
            compose(verb, [*first[:place], other, *first[place + 1 :]])


def swept(given: Override) -> list[str]:
    """The overrides that a sweep over one key stands for."""
    if not given.is_sweep_override():
        return [str(given.input_line)]
    if given.is_interval_sweep():
        return [f"{given.get_key_element()}={given.value().start}"]
    return [f"{given.get_key_element()}={value}" for value in given.sweep_string_iterator()]


def compose(verb: str, overrides: list[str]) -> None:
    """Compose a configuration and check every constructor in it."""
    config, _ = compose_command(verb, overrides)
    check_targets(config)


def check_python(text: str) -> None:
    """Compile, and look up what is taken from segment."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("segment"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
        if isinstance(node, ast.Call) and re.fullmatch(r"segment\.\w+", ast.unparse(node.func)):
            function = getattr(segment, ast.unparse(node.func).split(".")[1])
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(function).bind(*node.args, **keywords)


def matches(expected: str, printed: str) -> bool:
    """Whether every line of an expected output was printed, in this order; spaces and numbers do not count."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for line in filter(str.strip, expected.splitlines()):
        pattern = re.compile(_NUMBER.sub(r"\\S*", re.escape(" ".join(line.split()))).replace(r"\.\.\.", ".*"))
        place = next((n for n, candidate in enumerate(lines) if pattern.fullmatch(candidate)), None)
        if place is None:
            return False
        lines = lines[place + 1 :]
    return True
