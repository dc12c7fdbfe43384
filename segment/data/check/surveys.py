"""The surveys of many cases: read in parallel within bounded memory, remembered by the content of the files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from segment.data.case import Case, Dataset
from segment.data.check.survey import Examination, Survey, examine
from segment.data.problems import ERROR, KINDS, WARNING, Problem
from segment.files import write_text
from segment.io.formats import version_of
from segment.parallel import Room, on_all_cores

FORMAT = 1  # to be raised whenever the facts or the judgements of a file change
VOXELS_IN_FLIGHT = 1 << 26  # about 1 GB at the 12 to 16 bytes a voxel takes while it is read


def survey_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    folder: Path | None = None,
    hashes: Mapping[str, str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Examination]:
    """Examine cases on all cores; what was found is remembered, so that a second time reads no voxel.

    Memory does not grow with the number of cases but for the facts themselves: a bounded number of voxels is read at
    once, and a scan larger than that alone.

    Args:
        cases: What to examine; ids must differ.
        dataset: Their data set: labels, ignore value and channels.
        folder: Where the findings are remembered; None remembers nothing.
        hashes: SHA-256 of every file of the cases by path; needed to remember. A case with a file that is not in it is
            read anew.
        progress: Called with the number of cases done, after each.

    Returns:
        Case id to its facts and problems, in the order of ``cases``.
    """
    room = Room(VOXELS_IN_FLIGHT)
    hashes = hashes or {}

    def one(case: Case) -> Examination:
        known = folder is not None and all(str(path) in hashes for path in case.files)
        path = folder / f"{_key(case, dataset, hashes)}.json" if folder is not None and known else None
        found = _recall(path, case) if path else None
        if found is None:
            found = examine(case, dataset, room.taken)
            if path:
                _remember(path, case, found)
        return found

    results: dict[str, Examination] = {}
    for case, found in zip(cases, on_all_cores(one, cases), strict=True):
        results[case.id] = found
        progress(len(results))
    return results


def _key(case: Case, dataset: Dataset, hashes: Mapping[str, str]) -> str:
    """A function of the files' bytes and of all that the findings depend on."""
    recipe: dict[str, Any] = {
        "format": FORMAT,
        "images": [hashes[str(path)] for path in case.images],
        "names": [path.name for path in case.files],  # findings name them, and a name tells the format
        "label": hashes[str(case.label)] if case.label else None,
        "labels": dataset.labels.declared,
        "channels": list(dataset.channels),
    }
    if any(readers := [version_of(path) for path in case.files]):
        recipe["readers"] = readers
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]


def _remember(path: Path, case: Case, found: Examination) -> None:
    files = [str(file) for file in case.files]
    # Files by number, since the same bytes may lie in another folder the next time.
    problems = [asdict(replace(problem, file=str(files.index(problem.file)))) for problem in found.problems]
    content = {"survey": found.survey.as_dict() if found.survey else None, "problems": problems}
    write_text(path, json.dumps(content, separators=(",", ":")))


def _recall(path: Path, case: Case) -> Examination | None:
    """What was remembered; None when there is nothing, or nothing sound."""
    files = case.files
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        problems = [Problem(**item) for item in content["problems"]]
        if not all(item.kind in KINDS and item.severity in (ERROR, WARNING) for item in problems):
            return None
        survey = None if content["survey"] is None else Survey.from_dict(content["survey"])
        return Examination(survey, tuple(replace(item, file=str(files[int(item.file)])) for item in problems))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
