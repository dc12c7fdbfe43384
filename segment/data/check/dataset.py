"""Check a data set and report every problem: open it, read each scan once, then compare the scans."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from segment.data.case import Case, Dataset
from segment.data.check.judge import (
    Surveyed,
    judge_dimensions,
    judge_duplicates,
    judge_labels,
    judge_orientations,
    judge_outliers,
    judge_sharing,
    judge_unlisted,
)
from segment.data.check.survey import Survey
from segment.data.check.surveys import survey_cases
from segment.data.problems import ERROR, KINDS, WARNING, Problem, Report, problem_of, reported
from segment.errors import UserError
from segment.io.content import remembered_hashes

Tests = Literal["all", "labelled", "none"]
"""Test scans: all, those with a label, or none."""


@dataclass(frozen=True)
class Checked:
    """Result of checking a data set.

    Attributes:
        dataset: The data set; None if it could not be opened.
        surveys: Facts about every training scan that could be read, by case id.
        hashes: SHA-256 of every file that was read, by path.
        problems: Every problem: errors first, then by kind and file.
        scans: Number of scans checked.
    """

    dataset: Dataset | None
    surveys: Mapping[str, Survey]
    hashes: Mapping[str, str]
    problems: tuple[Problem, ...]
    scans: int

    @property
    def errors(self) -> list[Problem]:
        """Problems that would make training fail or its results wrong."""
        return [problem for problem in self.problems if problem.severity == ERROR]

    @property
    def warnings(self) -> list[Problem]:
        """Problems that are worth checking."""
        return [problem for problem in self.problems if problem.severity == WARNING]

    def require_sound(self, command: str, shown: int = 3) -> None:
        """Refuse a data set with errors.

        Args:
            command: The command that lists all errors.
            shown: How many of them the message quotes.

        Raises:
            UserError: If there are errors; one paragraph with the first of them.
        """
        errors = self.errors
        if not errors:
            return
        quoted = " ".join(str(problem) for problem in errors[:shown])
        if len(errors) == 1:
            raise UserError(f"{quoted} (`{command}` also lists the warnings.)")
        raise UserError(f"The data set has {len(errors)} errors. {quoted} `{command}` lists all {len(errors)}.")


def check_dataset(
    open_it: Callable[[Report], Dataset],
    root: Path,
    folder: Path | None = None,
    hashes: Mapping[str, str] | None = None,
    splits: Path | None = None,
    tests: Tests = "all",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Checked:
    """Open a data set and find all its problems; nothing in it is changed.

    Args:
        open_it: Opens the data set and reports each problem to its argument.
        root: Folder or file of the data set.
        folder: Cache of the results for each scan, by content, and of the hashes of files; None disables it.
        hashes: Known SHA-256 of files, by path; the others are computed.
        splits: A splits file to check as well.
        tests: Which test scans to read too and compare with the training scans.
        progress: Called after each scan with the number of scans done and in total.

    Returns:
        The data set, the facts about its scans and its problems.
    """
    problems: list[Problem] = []
    try:
        dataset = open_it(problems.append)
    except UserError as error:
        return Checked(None, {}, {}, ordered([*problems, _opening_problem(error, root)]), 0)
    test_cases = [case for case in dataset.test_cases if tests == "all" or (tests == "labelled" and case.label)]
    total = len(dataset.cases) + len(test_cases)
    paths = {path for case in (*dataset.cases, *test_cases) for path in case.sources}
    memory = folder and folder / f"hashes-{hashlib.sha256(str(root.absolute()).encode()).hexdigest()[:32]}.json"
    known = hash_readable(paths, hashes, memory)
    parts: list[list[tuple[Case, Survey]]] = []
    for cases, before in ((dataset.cases, 0), (test_cases, len(dataset.cases))):
        examined = survey_cases(cases, dataset, folder, known, partial(_advance, progress, before, total))
        problems += [problem for item in examined.values() for problem in item.problems]
        parts.append([(case, survey) for case in cases if (survey := examined[case.id].survey) is not None])
    training, test = parts
    _judge(dataset, training, test, problems)
    if splits is not None:
        from segment.data.splits import read_folds  # imports scikit-learn, which takes a second

        with reported(problems.append, "splits", splits):
            read_folds(splits, dataset, problems.append)
    surveys = {case.id: survey for case, survey in training}
    return Checked(dataset, surveys, known, ordered(problems), total)


def _advance(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _judge(dataset: Dataset, training: Surveyed, tests: Surveyed, problems: list[Problem]) -> None:
    """Checks that compare several scans."""
    report, every = problems.append, [*training, *tests]
    judge_labels(dataset, training, report)
    judge_duplicates(training, tests, report)
    judge_sharing([*dataset.cases, *dataset.test_cases], report)
    judge_dimensions(every, report)
    judge_outliers(every, report)
    judge_orientations(every, report)
    judge_unlisted(dataset, " ".join(map(str, problems)), report)


def _opening_problem(error: UserError, root: Path) -> Problem:
    """Why the data set could not be opened; the message begins with the root or a file in it."""
    named = re.match(rf"{re.escape(str(root))}[^\s:,]*", str(error))
    return problem_of(error, "description", named[0] if named else root)


def ordered(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort problems, errors first, then by kind and file, and remove duplicates.

    Args:
        problems: In any order.

    Returns:
        The sorted problems.
    """
    kinds = list(KINDS)
    return tuple(
        sorted(dict.fromkeys(problems), key=lambda item: (item.severity, kinds.index(item.kind), item.file, item.what))
    )


def hash_readable(paths: Iterable[Path], known: Mapping[str, str] | None, memory: Path | None = None) -> dict[str, str]:
    """Hash files; unreadable ones are left out, since reading them later reports the reason.

    Args:
        paths: The files.
        known: Hashes computed before, by path.
        memory: File that remembers hashes of files that nobody has changed since, see `remembered_hashes`.

    Returns:
        Path to SHA-256.
    """
    hashes = dict(known or {})
    missing = sorted(path for path in paths if str(path) not in hashes)
    return hashes | remembered_hashes(missing, memory)
