"""``segment check``: prove a data set sound, or list everything that is wrong with it."""

from __future__ import annotations

import inspect
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from segment.data.case import Dataset
from segment.data.check import Checked, check_dataset
from segment.data.problems import KINDS, Problem, Report
from segment.errors import UserError
from segment.run import BUILT_IN, arguments
from segment.run.arguments import assign, typed
from segment.run.configure import check_targets, make


def run(config: DictConfig) -> None:
    """Check what ``data`` names and print the report; exit code 2 when the data set is not sound."""
    if config.format not in ("text", "json"):
        raise UserError(f"format={config.format}: the report is written as text or json.")
    check_targets(config)
    checked = inspect_data(config, tests=True)
    if checked.dataset is not None and checked.dataset.notice:
        print(f"Note: {checked.dataset.notice}", file=sys.stderr)
    name = checked.dataset.name if checked.dataset else str(config.data.get("name") or root_of(config).name)
    print(as_json(name, checked) if config.format == "json" else as_text(checked, root_of(config)))
    if checked.errors or (config.strict and checked.warnings):
        sys.exit(2)


def sound(config: DictConfig, hashes: Mapping[str, str] | None = None) -> Checked:
    """Open and check the training scans of a data set, for a verb that needs them sound.

    Args:
        config: A configuration with ``data`` and ``cache``.
        hashes: SHA-256 of files that are known already, by path.

    Returns:
        The data set, the facts about every training scan, the hash of every file, and the warnings.

    Raises:
        UserError: One paragraph with the first errors and the command that lists all of them.
    """
    checked = inspect_data(config, tests=False, hashes=hashes)
    checked.require_sound(command(config))
    return checked


def inspect_data(config: DictConfig, tests: bool, hashes: Mapping[str, str] | None = None) -> Checked:
    """Check what ``data`` names, with progress on stderr.

    Args:
        config: A configuration with ``data``, ``cache`` and ``splits``.
        tests: Whether test scans are read too.
        hashes: SHA-256 of files that are known already, by path.

    Raises:
        UserError: When there is nothing at the data set's root.
    """
    root = root_of(config)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("checking scans", total=None)
        checked = check_dataset(
            lambda report: open_data(config, report),
            root,
            Path(config.cache) / "surveys",
            hashes,
            splits_of(config),
            tests,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if checked.dataset is None and not root.exists():
        raise UserError(str(checked.errors[0]))
    return checked


def open_data(config: DictConfig, report: Report) -> Dataset:
    """Open what ``data`` names; what is not sound goes to the reporter, where the data set's opener takes one."""
    if "report" in inspect.signature(get_object(config.data["_target_"])).parameters:
        dataset: Dataset = make(config, "data", _partial_=True)(report=report)
    else:
        dataset = make(config, "data")
    return dataset


def root_of(config: DictConfig) -> Path:
    """Where the data set lies."""
    # Not get(): a root that was left out is the user's mistake, told by its key.
    return Path(str(config.data.root if "root" in list(config.data) else ".")).expanduser()


def splits_of(config: DictConfig) -> Path | None:
    """The splits file that was named; that of a study is looked for beside the built-in ones where it is not here."""
    if not config.get("splits"):
        return None
    named = Path(str(config.splits)).expanduser()
    return named if named.exists() or not (BUILT_IN / named).is_file() else BUILT_IN / named


def command(config: DictConfig) -> str:
    """The check of the data set that this verb was given."""
    splits = [assign("splits", str(config.splits))] if splits_of(config) else []
    if not HydraConfig.initialized():
        return arguments.command("check", "data=...", assign("data.root", str(root_of(config))), *splits)
    runtime = HydraConfig.get()
    given = [typed(text) for text in runtime.overrides.task if text.lstrip("+").startswith("data.")]
    return arguments.command("check", f"data={runtime.runtime.choices['data']}", *given, *splits)


def as_json(name: str, checked: Checked) -> str:
    """The report for programs."""
    content: dict[str, Any] = {
        "dataset": name,
        "scans": checked.scans,
        "errors": len(checked.errors),
        "warnings": len(checked.warnings),
        "problems": [
            {key: getattr(problem, key) for key in ("severity", "kind", "file", "what", "mend")}
            for problem in checked.problems
        ],
    }
    return json.dumps(content, indent=2)


def as_text(checked: Checked, root: Path) -> str:
    """The report for people: by kind, each file with what is wrong; how to mend it once where all are mended alike."""
    lines: list[str] = []
    for (severity, kind), group in itertools.groupby(checked.problems, key=lambda item: (item.severity, item.kind)):
        lines += _section(f"{severity.upper()}  {KINDS[kind]}", list(group), root)
    errors, warnings = len(checked.errors), len(checked.warnings)
    verdict = "not sound" if errors else "sound"
    counts = (f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((errors, "error"), (warnings, "warning")))
    read = f"{checked.scans} scan{'' if checked.scans == 1 else 's'} read"
    return "\n".join([*lines, f"{root}: {', '.join([read, *counts])}: {verdict}."])


def _section(title: str, problems: Sequence[Problem], root: Path) -> list[str]:
    lines = [title if len(problems) == 1 else f"{title} ({len(problems)})"]
    alike = len({problem.mend for problem in problems}) == 1
    for problem in problems:
        lines.append(f"  {problem.file.removeprefix(f'{root}/')}: {problem.what}")
        if problem.mend and (not alike or problem is problems[-1]):
            lines.append(f"    -> {problem.mend}")
    return [*lines, ""]
