"""Writes the reference of commands, configuration keys and networks from conf/ and from the code's docstrings."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import griffe
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[2]
CONF = REPOSITORY / "conf"
GROUPS = {
    "augment": "Changes of the training patches; `segment show augment data=NAME augment=NAME` draws them.",
    "callbacks": "Lightning callbacks. Several choices: `callbacks=[ema,energy]`.",
    "data": "Data sets. [Data sets and layouts](../../data.md) has their licences and how to get each.",
    "debug": "Short runs that look for mistakes.",
    "inference": "How a scan is divided into windows and predicted.",
    "logger": "Loggers. Several: `logger=[tensorboard,csv]`.",
    "loss": "Losses. Each takes logits `(batch, class, ...)` and class indices `(batch, 1, ...)`.",
    "method": "Ways of pretraining: `segment pretrain method=NAME`.",
    "metrics": "Metrics besides Dice and IoU, which are always computed; by default `metrics=[hd95,nsd]`.",
    "network": "Networks in YAML. [Networks](../networks.md) lists their papers.",
    "optimizer": "Optimisers. Most network files select the one of their paper.",
    "sampler": "Which patch of which scan is trained on.",
    "scheduler": "Learning rate schedules, per step.",
    "trainer": "Lightning's Trainer, and what fits the hardware.",
    "training": "Complete training setups.",
}
SECTIONS = ("data", "loss", "optimizer", "scheduler", "network", "augment", "sampler", "inference")
"""Groups whose files are the content of the key of the same name; other files say where they belong."""
DIRECTIVE = ("defaults", "hydra")
PASSED = {"spatial_dims", "in_channels", "out_channels", "params", "optimizer"}
"""Parameters that the program sets."""


@dataclass(frozen=True)
class Key:
    """A key of a configuration file: dotted name; value as in the file, or class that it builds; its comment."""

    name: str
    value: str
    comment: str


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    pages = {"commands": commands(), "networks": networks()}
    pages |= {f"configuration/{group}": group_page(group) for group in GROUPS}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def commands() -> str:
    """Every verb with its keys."""
    lines = ["# Commands", "", "`segment VERB key=value ...`; `segment VERB --help` lists the choices of its groups,"]
    lines += ["`--cfg job` prints the whole configuration, `-m` runs a sweep. `???` marks a required key.", ""]
    for verb, (what, usage) in verbs().items():
        text = (CONF / f"{verb}.yaml").read_text(encoding="utf-8")
        lines += [f"## segment {verb}", "", f"{what[0].upper()}{what[1:]}.", "", "```sh", f"segment {verb} {usage}"]
        lines += ["```", "", *chosen(text), *table(list(keys(text)), "")]
    lines += ["## Every command", "", *table(list(keys((CONF / "quiet.yaml").read_text(encoding="utf-8"))), "")]
    return "\n".join(lines)


def verbs() -> dict[str, tuple[str, str]]:
    """Verb -> what it does, and its arguments, from the command's own table."""
    sys.path.insert(0, str(REPOSITORY))
    from segment.cli import VERBS

    return VERBS


def chosen(text: str) -> list[str]:
    """The groups that a verb composes, with their default choice."""
    entries = yaml.safe_load(text).get("defaults", [])
    found = []
    for entry in entries:
        for group, choice in entry.items() if isinstance(entry, dict) else []:
            name = group.removeprefix("optional ")
            if name in GROUPS:
                default = "none" if choice is None else "required" if choice == "???" else f"default `{choice}`"
                found.append(f"[{name}](configuration/{name}.md) ({default})")
    if "train" in entries:
        found.insert(0, "all of [train](#segment-train)")
    return [f"Groups: {', '.join(found)}.", ""] if found else []


def networks() -> str:
    """A table of the networks, with the recipe that each file selects."""
    lines = ["# Networks", "", "`segment train network=NAME`. `segment list networks` adds parameters and operations,"]
    lines += ["`segment list networks network=NAME network.KEY=VALUE` shows one of them part by part. Optimiser and"]
    lines += ["schedule are those that the network's file selects.", ""]
    lines += ["| network | what | optimizer, scheduler | paper |", "| --- | --- | --- | --- |"]
    for name, text in choices("network"):
        link = re.search(r",?\s*(https?://\S+)", comment := first_comment(text))
        what = comment.replace(link[0], "") if link else comment
        paper = f"[{re.sub(r'^https?://(www.)?', '', link[1])}]({link[1]})" if link else "-"
        lines.append(f"| [{name}](configuration/network.md#{name}) | {cell(what)} | {recipe(text)} | {paper} |")
    return "\n".join(lines)


def recipe(text: str) -> str:
    """Optimiser and schedule that a network's file, or one that it is based on, selects."""
    chosen = selected(text)
    return ", ".join(chosen[part] for part in ("optimizer", "scheduler") if part in chosen) or "-"


def selected(text: str) -> dict[str, str]:
    """Group -> choice that a network's file selects."""
    found: dict[str, str] = {}
    for entry in yaml.safe_load(text).get("defaults", []):
        if isinstance(entry, dict):
            found |= {key.split("/")[1].split("@")[0]: choice for key, choice in entry.items() if "/" in key}
        elif entry != "_self_":
            file = CONF / "network" / f"{entry.split('@')[0]}.yaml"
            found = selected(file.read_text(encoding="utf-8")) | found
    return found


def group_page(group: str) -> str:
    """Every choice of a group with its keys."""
    lines = [f"# {group}", "", GROUPS[group], ""]
    for name, text in choices(group):
        nested = group in SECTIONS
        shown = f"{group}={name}" if group != "data" else f"data={name}"
        lines += [f"## {name}", "", f"`{shown}`: {first_comment(text)}", ""]
        lines += [*inherits(text), *target_line(text), *table(list(keys(text)), group if nested else "", targets(text))]
        if further := further_parameters(text):
            lines += [f"Further parameters, `+{group}.KEY=VALUE`: {further}", ""]
    return "\n".join(lines)


def choices(group: str) -> Iterator[tuple[str, str]]:
    """Name and text of every file of a group."""
    for file in sorted((CONF / group).glob("*.yaml")):
        yield file.stem, file.read_text(encoding="utf-8")


def inherits(text: str) -> list[str]:
    """What a choice is based on, and what else it selects."""
    based, selects = [], []
    for entry in yaml.safe_load(text).get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            name = entry.split("@")[0]
            based.append(f"[{name}](#{name})")
        elif isinstance(entry, dict):
            selects += [f"`{key.split('/')[-1].split('@')[0]}={choice}`" for key, choice in entry.items()]
    lines = [f"Based on {', '.join(based)}."] if based else []
    return [*lines, *([f"Selects {', '.join(selects)}."] if selects else []), ""] if based or selects else []


def target_line(text: str) -> list[str]:
    """The constructor of a choice."""
    target = (yaml.safe_load(text) or {}).get("_target_")
    return [f"Builds `{target}`.", ""] if target else []


def keys(text: str) -> Iterator[Key]:
    """The keys of a configuration file in order, without Hydra's own."""
    lines = text.splitlines()

    def visit(node: yaml.MappingNode, prefix: str) -> Iterator[Key]:
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if name in DIRECTIVE or key.value in ("_target_", "_partial_"):
                continue
            start, end = value.start_mark, value.end_mark
            folded = isinstance(value, yaml.ScalarNode) and value.style in ("|", ">")
            if folded or start.line != key.end_mark.line:  # the key's own comment, not that of a value below it
                end = key.end_mark
            comment = "" if node.flow_style else comment_after(lines[end.line], end.column)
            if isinstance(value, yaml.MappingNode) and (target_of(value) or not value.flow_style) and value.value:
                yield Key(name, target_of(value), comment)
                yield from visit(value, f"{name}.")
            else:
                shown = value.value if folded else text[start.index : end.index] or "see the file"
                yield Key(name, " ".join(shown.split()).strip("'\""), comment)

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        yield from visit(root, "")


def target_of(node: yaml.MappingNode) -> str:
    """The class that a node builds, without its module; empty if it builds none."""
    targets = (value.value for key, value in node.value if key.value == "_target_")
    return next(targets, "").rpartition(".")[2]


def comment_after(line: str, column: int) -> str:
    """The comment that ends a line."""
    found = re.search(r"\s#\s*(.*)$", line[column:])
    return found[1].strip() if found else ""


def table(found: list[Key], section: str, constructors: dict[str, str] | None = None) -> list[str]:
    """Keys as a table of Markdown.

    Args:
        found: The keys.
        section: Key that contains them; empty if they are at the top.
        constructors: Dotted name of a node -> its ``_target_``, for what docstrings say of keys without a comment.
    """
    if not found:
        return []
    rows = []
    for key in found:
        node, _, argument = key.name.rpartition(".")
        meaning = key.comment or parameters((constructors or {}).get(node, "")).get(argument, ("", ""))[1]
        name = f"{section}.{key.name}" if section else key.name
        rows.append([f"`{name}`", f"`{key.value}`" if key.value else "", meaning])
    heads = ["key", "value", "meaning"] if any(row[2] for row in rows) else ["key", "value"]
    lines = [heads, ["---"] * len(heads), *rows]
    return [*(f"| {' | '.join(map(cell, line[: len(heads)]))} |" for line in lines), ""]


def targets(text: str) -> dict[str, str]:
    """Dotted name of every node with a ``_target_`` -> the target."""
    found: dict[str, str] = {}

    def visit(node: Any, name: str) -> None:
        if isinstance(node, dict):
            if "_target_" in node:
                found[name] = node["_target_"]
            for key, value in node.items():
                visit(value, f"{name}.{key}" if name else str(key))

    visit(yaml.safe_load(text), "")
    return found


def further_parameters(text: str) -> str:
    """Parameters of the constructor that the file does not set."""
    content = yaml.safe_load(text) or {}
    known = parameters(content.get("_target_", ""))
    rest = {name: of for name, of in known.items() if name not in content and name not in PASSED and of[0]}
    return "; ".join(f"`{name}` (`{default}`): {meaning.rstrip('.')}" for name, (default, meaning) in rest.items())


@functools.cache
def parameters(target: str) -> dict[str, tuple[str, str]]:
    """Parameter -> default and description, of a constructor of ours; empty for those of other packages."""
    if not target.startswith("segment."):
        return {}
    found = package()[target.removeprefix("segment.")]
    found = found.final_target if found.is_alias else found
    function = found.members.get("__init__", found) if found.is_class else found
    described = {}
    for documented in (*(reversed(found.mro()) if found.is_class else ()), found, function):
        for section in documented.docstring.parse("google", warnings=False) if documented.docstring else []:
            if section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes):
                described |= {entry.name: " ".join(entry.description.split()) for entry in section.value}
    signature = getattr(function, "parameters", [])
    return {p.name: (str(p.default or ""), described.get(p.name, "")) for p in signature if p.name != "self"}


@functools.cache
def package() -> griffe.Object:
    """The package, read without importing it."""
    return griffe.load("segment", search_paths=[REPOSITORY], resolve_aliases=True, resolve_external=False)


def first_comment(text: str) -> str:
    """The description of a file: its first comment that is not a directive."""
    comments = (line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#"))
    return next((comment for comment in comments if comment and not comment.startswith("@")), "")


def cell(text: str) -> str:
    """Text as the cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;") if "`" not in text else text.replace("|", "\\|")
