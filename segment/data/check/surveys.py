"""Surveys of many cases: read in parallel within bounded memory and cached by file content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from segment.data.case import Case, Dataset
from segment.data.check.survey import Examination, examine
from segment.errors import UserError
from segment.files import read_mapping, write_text
from segment.io.formats import version_of
from segment.memory import available_memory
from segment.parallel import Room, on_all_cores, with_others
from segment.validation import read_as

FORMAT = 2  # increase whenever the facts or checks of a file change
BYTES_PER_VOXEL = 16  # while a scan is read


def survey_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    folder: Path | None = None,
    hashes: Mapping[str, str] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Examination]:
    """Examine cases on all cores; results are cached, so that a second call reads no voxels.

    Several processes that examine the same cases with the same cache share them.

    Apart from the facts themselves, memory does not grow with the number of cases: as many voxels are read at once
    as take half of the available memory, and a scan above this limit is read alone.

    Args:
        cases: Cases to examine, with unique ids.
        dataset: Their data set: labels, ignore value and channels.
        folder: Cache of the results; None disables it.
        hashes: SHA-256 of every file of the cases by path; needed for the cache. A case with an unlisted file is always
            read.
        progress: Called after each case with the number of cases done.

    Returns:
        Case id to its facts and problems, in the order of ``cases``.
    """
    room = Room(available_memory() // 2 // BYTES_PER_VOXEL)
    hashes = hashes or {}

    def place(case: Case) -> Path | None:
        known = folder is not None and all(str(path) in hashes for path in case.files)
        return folder / f"{_key(case, dataset, hashes)}.json" if folder is not None and known else None

    def look(case: Case) -> Examination | None:
        path = place(case)
        return _read_cache(path, case) if path else None

    def work(case: Case) -> Examination:
        path = place(case)
        found = _read_cache(path, case) if path else None  # another process may have examined it meanwhile
        if found is None:
            found = examine(case, dataset, room.taken)
            if path:
                _write_cache(path, case, found)
        return found

    def lock(case: Case) -> Path:
        assert folder is not None
        return folder / f".lock-{_key(case, dataset, hashes)}"

    looked = zip(cases, on_all_cores(look, cases), strict=True)
    results = {case.id: found for case, found in looked if found is not None}
    progress(len(results))
    left = [case for case in cases if case.id not in results]
    shared, own = ([case for case in left if (place(case) is not None) == has] for has in (True, False))
    for case, found in chain(with_others(work, shared, lock), zip(own, on_all_cores(work, own), strict=True)):
        results[case.id] = found
        progress(len(results))
    return {case.id: results[case.id] for case in cases}


def _key(case: Case, dataset: Dataset, hashes: Mapping[str, str]) -> str:
    """Cache key: a function of the files' bytes and of everything else that the results depend on."""
    recipe: dict[str, Any] = {
        "format": FORMAT,
        "images": [hashes[str(path)] for path in case.images],
        "names": [path.name for path in case.files],  # problems name the files, and the suffix determines the format
        "label": hashes[str(case.label)] if case.label else None,
        "labels": dataset.labels.declared,
        "channels": list(dataset.channels),
    }
    if any(readers := [version_of(path) for path in case.files]):
        recipe["readers"] = readers
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:32]


def _write_cache(path: Path, case: Case, found: Examination) -> None:
    files = [str(file) for file in case.files]
    # Files by number, since the same bytes may be in another folder next time.
    problems = [asdict(replace(problem, file=str(files.index(problem.file)))) for problem in found.problems]
    content = {"survey": found.survey.as_dict() if found.survey else None, "problems": problems}
    write_text(path, json.dumps(content, separators=(",", ":")))


def _read_cache(path: Path, case: Case) -> Examination | None:
    """The cached result; None if it is missing or invalid."""
    try:
        found = read_as(Examination, read_mapping(path), path)
        problems = [replace(problem, file=str(case.files[int(problem.file)])) for problem in found.problems]
    except (UserError, ValueError, IndexError):
        return None
    return replace(found, problems=tuple(problems))
