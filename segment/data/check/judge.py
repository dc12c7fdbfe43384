"""Checks across scans: labels that never occur, duplicates, outliers, mixed orientations, unlisted files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from segment.data.case import Case, Dataset
from segment.data.check.survey import Survey
from segment.data.layouts.common import image_files
from segment.data.problems import ERROR, WARNING, Problem, Report

OUTLIER = 3.0  # largest ratio of a voxel size or scan size to the median, or of the median to it
FEW = 0.05  # of the training masks; or one of at least `ENOUGH`
ENOUGH = 4
OBLIQUE = 1.0  # degrees; headers written with few digits are off by less

Surveyed = Sequence[tuple[Case, Survey]]


def judge_labels(dataset: Dataset, training: Surveyed, report: Report) -> None:
    """Report labels that occur in no training scan or in few; an error if no label occurs at all.

    Args:
        dataset: The declared labels.
        training: Training cases with their facts.
        report: Receives the problems.
    """
    masks = [(case, survey.counts) for case, survey in training if survey.counts]
    counted = [counts for _, counts in masks]
    if not counted:
        return
    never = {
        name: value
        for name, value in dataset.labels.foreground.items()
        if not any(value in counts for counts in counted)
    }
    described = str(description(dataset))
    if len(never) == len(dataset.labels.foreground):
        what = f"No structure occurs in any of {len(counted)} training masks; the labels are {dataset.labels.declared}."
        report(Problem("unused", described, what, "Correct the labels' values, or the masks."))
        return
    for name, value in never.items():
        what = f"The label {name!r} (value {value}) occurs in none of {len(counted)} training masks."
        report(Problem("unused", described, what, "Remove it, or add scans that contain it.", WARNING))
    for name, value in dataset.labels.foreground.items():
        having = [case for case, counts in masks if value in counts]
        if len(masks) >= ENOUGH and 0 < len(having) <= max(1, FEW * len(masks)):
            what = f"The label {name!r} (value {value}) occurs in only {len(having)} of {len(masks)} training masks."
            fix = "Look whether the value is a mistake there; if not, a fold cannot both train and validate it."
            report(Problem("rare", str(having[0].label), what, fix, WARNING))


def description(dataset: Dataset) -> Path:
    """The file that declares a data set's labels, or its folder.

    Args:
        dataset: A data set.

    Returns:
        ``dataset.json`` if there is one.
    """
    described = dataset.root / "dataset.json"
    return described if described.is_file() else dataset.root


def judge_duplicates(training: Surveyed, tests: Surveyed, report: Report) -> None:
    """Report scans with identical voxels, however they are stored.

    Duplicates that involve a training scan are errors, since the model would be tested on scans it was trained on.
    Training scans of one group are never in different parts of a fold, so they may be equal, as with two raters.

    Args:
        training: Training cases with their facts.
        tests: Test cases with their facts.
        report: Receives the problems.
    """
    first: dict[str, tuple[Case, str]] = {}
    for part, surveyed in (("training", training), ("test", tests)):
        for case, survey in surveyed:
            if survey.constant:
                continue
            known, where = first.setdefault(survey.digest, (case, part))
            if known is not case and not (part == where == "training" and _kept_together(known, case)):
                what = f"The {part} scan {case.id!r} has the same voxels as the {where} scan {known.id!r}"
                severity = WARNING if (part, where) == ("test", "test") else ERROR
                what = f"{what} ({known.images[0]})."
                report(Problem("identical", str(case.images[0]), what, "Keep one of them.", severity))


def _kept_together(one: Case, other: Case) -> bool:
    return one.group is not None and one.group == other.group


def judge_sharing(cases: Sequence[Case], report: Report) -> None:
    """Report files that are used twice: by two cases, or as both image and mask; cases of a group may share images.

    Args:
        cases: All cases.
        report: Receives the problems.
    """
    owners: dict[Path, Case] = {}
    for case in cases:
        for path in case.files:
            owner = owners.setdefault(path, case)
            shared = path in owner.images and path in case.images and _kept_together(owner, case)
            if owner is not case and not shared:
                what = f"The file belongs to two cases, {owner.id!r} and {case.id!r}."
                report(Problem("duplicate", str(path), what, "Give each case its own files."))
        if case.label in case.images:
            what = f"The case {case.id!r} uses one file as both image and mask."
            report(Problem("duplicate", str(case.label), what, "Give the path of the mask."))


def judge_dimensions(surveyed: Surveyed, report: Report) -> None:
    """Report 2D scans among 3D ones, or 3D scans among 2D ones, whichever are fewer.

    Args:
        surveyed: Cases with their facts.
        report: Receives the problems.
    """
    counts = Counter(len(survey.shape) for _, survey in surveyed)
    if len(counts) < 2:
        return
    minority = 3 if counts[3] < counts[2] else 2
    for case, survey in surveyed:
        if len(survey.shape) == minority:
            what = (
                f"The scan is {minority}D, while {counts[5 - minority]} of {len(surveyed)} scans are {5 - minority}D."
            )
            report(Problem("dimensions", str(case.images[0]), what, "Split the data set into a 2D and a 3D data set."))


def judge_outliers(surveyed: Surveyed, report: Report) -> None:
    """Report voxel sizes and scan sizes far from the median of all scans.

    Args:
        surveyed: Cases with their facts.
        report: Receives the problems.
    """
    for dims, axes in ((2, "y, x"), (3, "z, y, x")):
        same_dims = [(case, survey) for case, survey in surveyed if len(survey.shape) == dims]
        if len(same_dims) < 3:
            continue
        for kind, unit, values in (
            ("spacing", "mm", np.array([survey.spacing for _, survey in same_dims])),
            ("size", "voxels", np.array([survey.shape for _, survey in same_dims], dtype=float)),
        ):
            median = np.median(values, axis=0)
            far = np.maximum(values / median, median / values).max(axis=1)
            for (case, _), value, factor in zip(same_dims, values, far, strict=True):
                if factor > OUTLIER:
                    what = (
                        f"The scan's {kind} is {_format_values(value)} {unit} along {axes}, "
                        f"a factor of {factor:.3g} off the median {_format_values(median)}."
                    )
                    fix = "Check whether the header is correct."
                    report(Problem(kind, str(case.images[0]), what, fix, WARNING))


def _format_values(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def judge_orientations(surveyed: Surveyed, report: Report) -> None:
    """Report, once per data set, scans with different or oblique orientations.

    Args:
        surveyed: Cases with their facts.
        report: Receives the problems.
    """
    by_orientation: dict[str, list[Case]] = defaultdict(list)
    for case, survey in surveyed:
        if survey.orientation:
            by_orientation[survey.orientation].append(case)
    if len(by_orientation) > 1:
        ranked = sorted(by_orientation.items(), key=lambda item: -len(item[1]))
        listed = ", ".join(f"{codes} {len(cases)} ({handedness(codes)})" for codes, cases in ranked)
        rarest = ranked[-1][1][0].images[0]
        what = (
            f"The scans have different orientations: {listed}. They are reoriented consistently if the headers are "
            "correct."
        )
        fix = "Inspect one scan of each, especially if handedness differs: a wrong header swaps left and right."
        report(Problem("orientation", str(rarest), what, fix, WARNING))
    oblique = [(survey.oblique, str(case.images[0])) for case, survey in surveyed if survey.oblique > OBLIQUE]
    if oblique:
        largest, path = max(oblique)
        what = f"{len(oblique)} of {len(surveyed)} scans are oblique, this one the most: {largest:.3g} degrees."
        report(Problem("orientation", path, what, "No action is needed if they were acquired this way.", WARNING))


def handedness(codes: str) -> str:
    """Handedness of the axes x, y, z; RAS is right-handed."""
    order = ["RL", "AP", "SI"]
    axes = [next(i for i, pair in enumerate(order) if code in pair) for code in codes]
    flips = sum(code in "LPI" for code in codes)
    swaps = sum(axes[i] > axes[j] for i in range(3) for j in range(i + 1, 3))
    return "left-handed" if (flips + swaps) % 2 else "right-handed"


def judge_unlisted(dataset: Dataset, reported: str, report: Report) -> None:
    """Report image files next to the scans that ``dataset.json`` does not list.

    Args:
        dataset: The data set; without a ``dataset.json`` all its files are used, so none is unlisted.
        reported: Text of the problems reported so far; files that it names are not reported again.
        report: Receives the problems.
    """
    if not (dataset.root / "dataset.json").is_file():
        return
    used = {path for case in (*dataset.cases, *dataset.test_cases) for path in case.files}
    for path in _neighbours(dataset, used):
        if path not in used and str(path) not in reported:
            what = "The file is next to the scans, but the data set does not list it."
            report(Problem("unlisted", str(path), what, "List it, or remove it.", WARNING))


def _neighbours(dataset: Dataset, used: set[Path]) -> Iterator[Path]:
    folders = {path.parent for path in used} | {
        dataset.root / f"{part}T{s}" for part in ("images", "labels") for s in "rs"
    }
    for folder in sorted(folders):
        yield from image_files(folder)
