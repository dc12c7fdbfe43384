"""``segment check``: check a data set and list everything that is wrong with it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from segment.config.build import check_targets
from segment.config.data import read_data
from segment.data.check.dataset import Checked
from segment.data.problems import KINDS, Problem
from segment.errors import UserError
from segment.text import print_json
from segment.workflow.check import inspect_data
from segment.workflow.experiment import NO_COMMAND, Command


def run(config: DictConfig, command: Command = NO_COMMAND) -> None:
    """Check the data set of ``data`` and print the report; exit with code 2 when the data set is not valid."""
    if config.format not in ("text", "json"):
        raise UserError(f"format={config.format}: must be text or json.")
    check_targets(config)
    data = read_data(config, command)
    checked = inspect_data(data, tests="all", privacy=bool(config.privacy))
    if checked.dataset is not None and checked.dataset.notice:
        print(f"Note: {checked.dataset.notice}", file=sys.stderr)
    name = checked.dataset.name if checked.dataset else str(data.name or data.root.name)
    if config.format == "json":
        print_json(as_json(name, checked))
    else:
        print(as_text(checked, data.root))
    if checked.errors or (config.strict and checked.warnings):
        sys.exit(2)


def as_json(name: str, checked: Checked) -> dict[str, Any]:
    """The report for programs."""
    return {
        "dataset": name,
        "scans": checked.scans,
        "errors": len(checked.errors),
        "warnings": len(checked.warnings),
        "problems": [
            {key: getattr(problem, key) for key in ("severity", "kind", "file", "what", "fix")}
            for problem in checked.problems
        ],
    }


def as_text(checked: Checked, root: Path) -> str:
    """The report as text: by kind, each file with what is wrong; a fix that all files share is printed once."""
    lines: list[str] = []
    for (severity, kind), group in itertools.groupby(checked.problems, key=lambda item: (item.severity, item.kind)):
        lines += _section(f"{severity.upper()}  {KINDS[kind]}", list(group), root)
    errors, warnings = len(checked.errors), len(checked.warnings)
    verdict = "not valid" if errors else "valid"
    counts = (f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((errors, "error"), (warnings, "warning")))
    read = f"{checked.scans} scan{'' if checked.scans == 1 else 's'} read"
    return "\n".join([*lines, f"{root}: {', '.join([read, *counts])}: {verdict}."])


def _section(title: str, problems: Sequence[Problem], root: Path) -> list[str]:
    lines = [title if len(problems) == 1 else f"{title} ({len(problems)})"]
    same_fix = len({problem.fix for problem in problems}) == 1
    for problem in problems:
        lines.append(f"  {problem.file.removeprefix(f'{root}/')}: {problem.what}")
        if problem.fix and (not same_fix or problem is problems[-1]):
            lines.append(f"    -> {problem.fix}")
    return [*lines, ""]
