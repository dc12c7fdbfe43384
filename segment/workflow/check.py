"""Opens and checks a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console
from rich.progress import Progress

from segment.data.check.dataset import Checked, Tests, check_dataset, ordered
from segment.data.check.privacy import judge_privacy
from segment.errors import UserError
from segment.workflow.experiment import DataSource


def checked_data(data: DataSource, hashes: Mapping[str, str] | None = None, tests: Tests = "none") -> Checked:
    """Open and check a data set, for a step that requires a valid one.

    Args:
        data: The data set.
        hashes: Known SHA-256 hashes of files, by path.
        tests: Which test scans to read besides the training scans.

    Returns:
        The data set, the survey of every training scan, the hash of every file, and the warnings.

    Raises:
        UserError: When there are errors; the message has the first ones and the command that lists all.
    """
    checked = inspect_data(data, tests, hashes)
    checked.require_sound(data.check)
    return checked


def inspect_data(
    data: DataSource, tests: Tests, hashes: Mapping[str, str] | None = None, privacy: bool = False
) -> Checked:
    """Check a data set, with progress on stderr.

    Args:
        data: The data set.
        tests: Which test scans to read too.
        hashes: Known SHA-256 hashes of files, by path.
        privacy: Whether to list what the files tell about patients too.

    Raises:
        UserError: When the data set's root does not exist.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("checking scans", total=None)
        checked = check_dataset(
            data.open,
            data.root,
            data.cache / "surveys",
            hashes,
            data.splits,
            tests,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if checked.dataset is None and not data.root.exists():
        raise UserError(str(checked.errors[0]))
    if privacy:
        problems = [*checked.problems, *judge_privacy(data.root, checked.dataset)]
        checked = replace(checked, problems=ordered(problems))
    return checked
