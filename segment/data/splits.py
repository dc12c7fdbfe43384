"""Folds of a data set: nnU-Net's five by default, read from and written to nnU-Net's ``splits_final.json`` format."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segment.data.case import Case, Dataset, Fold
from segment.data.problems import Problem, Report, raise_errors
from segment.errors import UserError, did_you_mean
from segment.files import write_json


def folds(dataset: Dataset, n: int = 5, seed: int = 12345, file: str | Path | None = None) -> list[Fold]:
    """Split the labelled cases into folds, unless the data set's own files state them.

    Without groups the default equals nnU-Net's: sorted names, scikit-learn's shuffled ``KFold`` with seed 12345. Cases
    of one group (a patient) stay together. With fewer than ``n`` cases there are as many folds as cases.

    Args:
        dataset: Its `cases` are split; its `test_cases` never are.
        n: Number of folds, at least 2; without effect on folds that a file or the data set states.
        seed: Seed of the shuffle.
        file: A splits file in nnU-Net's format to use instead.

    Returns:
        One ``{"train": [ids], "val": [ids]}`` per fold.

    Raises:
        UserError: If there are fewer than two cases (or groups), ``n`` is below 2, or the file is invalid.
    """
    if file is not None:
        return read_folds(Path(file), dataset)
    if dataset.folds:
        return list(dataset.folds)
    if n < 2:
        raise UserError(f"{n} fold(s) were requested; cross-validation needs at least 2.")
    units = _units(dataset.cases)
    if len(units) < 2:
        raise UserError(
            f"The data set {dataset.name!r} has {len(dataset.cases)} labelled case(s) in {len(units)} group(s); "
            "folds need at least two, one for training and one for validation. Add scans."
        )
    from sklearn.model_selection import KFold  # takes a second; reading a splits file does not need it

    splitter = KFold(min(n, len(units)), shuffle=True, random_state=seed)
    return [
        {part: sorted(case for unit in chosen for case in units[unit]) for part, chosen in (("train", a), ("val", b))}
        for a, b in splitter.split(units)
    ]


def pick_fold(all_folds: Sequence[Fold], fold: int | str) -> Fold:
    """Select one fold.

    Args:
        all_folds: The result of `folds`.
        fold: Its number, from 0.

    Returns:
        ``{"train": [ids], "val": [ids]}``.

    Raises:
        UserError: If there is no such fold.
    """
    if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < len(all_folds):
        raise UserError(f"fold={fold} does not exist: there are {len(all_folds)} folds, 0 to {len(all_folds) - 1}.")
    return all_folds[fold]


def inner_fold(dataset: Dataset, fold: Fold, n: int) -> Fold:
    """Split the training cases of a fold once more: the first of ``n`` folds of them.

    Args:
        dataset: The data set; cases of one group stay together.
        fold: A fold of it.
        n: Number of folds.

    Returns:
        ``{"train": [ids], "val": [ids]}``, none of them in ``fold["val"]``.

    Raises:
        UserError: If the fold has fewer than two training cases (or groups).
    """
    training = set(fold["train"])
    cases = tuple(case for case in dataset.cases if case.id in training)
    return folds(replace(dataset, cases=cases, folds=()), n)[0]


def write_folds(path: Path, all_folds: Sequence[Fold]) -> None:
    """Write folds in nnU-Net's format; the file is written atomically.

    Args:
        path: File to write; missing folders are created.
        all_folds: The result of `folds`.
    """
    write_json(path, list(all_folds))


def _units(cases: Sequence[Case]) -> list[list[str]]:
    """Groups of ids that must stay together, sorted by first id, so that ungrouped cases keep nnU-Net's order."""
    units: dict[tuple[bool, str], list[str]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        key = (False, case.id) if case.group is None else (True, case.group)
        units.setdefault(key, []).append(case.id)
    return list(units.values())


def read_folds(path: Path, dataset: Dataset, report: Report = raise_errors) -> list[Fold]:
    """Read folds in nnU-Net's format.

    Args:
        path: The file.
        dataset: The data set that the folds split.
        report: Receives a problem for each unknown case, case duplicated within a fold and group in both parts of a
            fold; raises by default.

    Returns:
        One ``{"train": [ids], "val": [ids]}`` per fold.

    Raises:
        UserError: If the file is missing or does not contain a list of folds.
    """
    if not path.is_file():
        raise UserError(f"The splits file {path} does not exist. Check the path.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"The splits file {path} is not valid JSON ({error}). Fix it.") from error
    if not isinstance(content, list) or not content:
        raise UserError(
            f"The splits file {path} is not a list of folds. Write [{{'train': [...], 'val': [...]}}, ...]."
        )
    return [_checked(fold, f"{path}, fold {number}", dataset, report) for number, fold in enumerate(content)]


def _checked(fold: object, where: str, dataset: Dataset, report: Report) -> Fold:
    """Check one fold of a file: known cases, no duplicates, no group in both parts."""

    def refuse(what: str, fix: str) -> None:
        report(Problem("splits", where, what, fix))

    groups = {case.id: case.group for case in dataset.cases}
    parts: Fold = {}
    for part in ("train", "val"):
        ids = fold.get(part) if isinstance(fold, dict) else None
        if not isinstance(ids, list) or not ids or not all(isinstance(name, str) for name in ids):
            refuse(f"{part!r} is not a list of case names.", "Write {'train': [...], 'val': [...]}.")
            ids = []
        for name in dict.fromkeys(ids):
            if name not in groups:
                hint = did_you_mean(name, groups)
                refuse(f"The case {name!r} is not in the data set {dataset.name!r}.", f"Correct it.{hint}")
        parts[part] = [name for name in ids if name in groups]
    for name, count in Counter(parts["train"] + parts["val"]).items():
        if count > 1:
            refuse(f"The case {name!r} is duplicated.", "List each case once, for training or validation.")
    shared = {groups[name] for name in parts["train"]} & {groups[name] for name in parts["val"]} - {None}
    for group in sorted(map(str, shared)):
        refuse(f"The group {group!r} is in both 'train' and 'val'.", "Move its cases to one of them.")
    return parts


def count_folds(path: Path) -> int:
    """Count the folds in a splits file.

    Raises:
        UserError: If the file cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: the folds cannot be read ({error}). In a run folder: delete it to start a new training."
        ) from None
    return len(content) if isinstance(content, list) else 0
